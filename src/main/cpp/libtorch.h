// What the JNI library asks of a libtorch that somebody else has loaded: where its tensors lie, and hooks in its
// graphs.
//
// Nothing here is compiled or linked against PyTorch. The C functions are those that PyTorch keeps for compiled models
// (torch/csrc/inductor/aoti_torch/c/shim.h). The few of C++ take and return numbers, a std::function, and tensors, each
// of which is one pointer: whoever links against libtorch passes them the same way. What a libtorch lacks is told by
// its name when it is opened.
#ifndef FLASHRING_LIBTORCH_H
#define FLASHRING_LIBTORCH_H

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace flashring::libtorch {

// An at::Tensor: one pointer, to what counts its references. That it has a destructor makes it go through memory where
// it is passed or returned, as at::Tensor does; the counting is libtorch's own, see Handle.
struct Opaque {
    void* implementation;
    ~Opaque() {}
};

// A c10::ArrayRef<at::Tensor>.
struct Opaques {
    const Opaque* first;
    size_t length;
};

// The functions, found by their names.
struct Functions {
    int32_t (*dataPointer)(void*, void**);
    int32_t (*dim)(void*, int64_t*);
    int32_t (*sizes)(void*, int64_t**);
    int32_t (*strides)(void*, int64_t**);
    int32_t (*dtype)(void*, int32_t*);
    int32_t (*deviceType)(void*, int32_t*);
    int32_t (*deviceIndex)(void*, int32_t*);
    int32_t (*deleteHandle)(void*);
    int32_t (*emptyStrided)(int64_t, const int64_t*, const int64_t*, int32_t, int32_t, int32_t, void**);
    int32_t (*copy)(void*, void*, int32_t);
    int64_t (*version)(const Opaque*);
    bool (*requiresGradient)(const void*);
    unsigned (*registerHook)(const Opaque*, std::function<Opaque(const Opaque&)>);
    Opaque (*alias)(const Opaque&);
    Opaque (*detach)(const Opaque&);
    Opaque (*take)(const Opaque&, const Opaque&);
    Opaque (*sum)(const Opaque&, std::optional<int8_t>);
    Opaque (*stack)(Opaques, int64_t);
    Opaque& (*put)(Opaque&, const Opaque&, const Opaque&, bool);
    int32_t (*currentCudaStream)(int32_t, void**);  // null where libtorch is for the host alone
};

inline Functions functions;

template <class Function>
bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function;
}

// Finds the functions in a libtorch_cpu.so that is loaded; cuda is the path of its libtorch_cuda.so, which need not be.
// Returns what is missing, or null.
inline const char* open(const char* cpu, const char* cuda) {
    void* library = dlopen(cpu, RTLD_LAZY | RTLD_NOLOAD);
    if (!library) {
        return "libtorch_cpu.so";
    }
    const char* missing = nullptr;
    Functions found{};
    const auto require = [&](const char* name, auto& function) {
        if (!missing && !find(library, name, function)) {
            missing = name;
        }
    };
    require("aoti_torch_get_data_ptr", found.dataPointer);
    require("aoti_torch_get_dim", found.dim);
    require("aoti_torch_get_sizes", found.sizes);
    require("aoti_torch_get_strides", found.strides);
    require("aoti_torch_get_dtype", found.dtype);
    require("aoti_torch_get_device_type", found.deviceType);
    require("aoti_torch_get_device_index", found.deviceIndex);
    require("aoti_torch_delete_tensor_object", found.deleteHandle);
    require("aoti_torch_empty_strided", found.emptyStrided);
    require("aoti_torch_copy_", found.copy);
    require("_ZNK2at10TensorBase8_versionEv", found.version);
    require("_ZNK3c1010TensorImpl13requires_gradEv", found.requiresGradient);
    require("_ZNK2at10TensorBase14_register_hookESt8functionIFS0_RKS0_EE", found.registerHook);
    require("_ZN2at4_ops5alias4callERKNS_6TensorE", found.alias);
    require("_ZN2at4_ops6detach4callERKNS_6TensorE", found.detach);
    require("_ZN2at4_ops4take4callERKNS_6TensorES4_", found.take);
    require("_ZN2at4_ops3sum4callERKNS_6TensorESt8optionalIN3c1010ScalarTypeEE", found.sum);
    require("_ZN2at4_ops5stack4callEN3c108ArrayRefINS_6TensorEEEl", found.stack);
    require("_ZN2at4_ops4put_4callERNS_6TensorERKS2_S5_b", found.put);
    if (void* other = dlopen(cuda, RTLD_LAZY | RTLD_NOLOAD)) {
        find(other, "aoti_torch_get_current_cuda_stream", found.currentCudaStream);
    }
    if (!missing) {
        functions = found;
    }
    return missing;
}

inline void check(int32_t status, const char* what) {
    if (status) {
        throw std::runtime_error(std::string("PyTorch has failed to ") + what + "; its standard error says why");
    }
}

// A tensor on the heap, as libtorch's C functions and the languages bound to it hold one.
class Handle {
public:
    Handle() = default;
    explicit Handle(void* tensor) : tensor_(tensor) {}
    Handle(Handle&& other) noexcept : tensor_(other.release()) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(tensor_, other.tensor_);
        return *this;
    }
    ~Handle() {
        if (tensor_) {
            functions.deleteHandle(tensor_);
        }
    }
    // What a call returns, which is written where it stays.
    template <class Call>
    static Handle of(const Call& call) {
        return Handle(new Opaque(call()));
    }
    explicit operator bool() const { return tensor_; }
    Opaque& operator*() const { return *static_cast<Opaque*>(tensor_); }
    void* release() { return std::exchange(tensor_, nullptr); }

private:
    void* tensor_ = nullptr;
};

inline Opaque& at(void* handle) { return *static_cast<Opaque*>(handle); }

// Of a tensor: dim, dtype and device as libtorch numbers them, address, up to four sizes, their strides, whether the
// tensor requires a gradient, how many elements it has, and whether they lie one behind the other.
inline void describe(void* tensor, int64_t* facts) {
    int32_t number = 0;
    check(functions.dim(tensor, &facts[0]), "tell a tensor's dimensions");
    check(functions.dtype(tensor, &number), "tell a tensor's type");
    facts[1] = number;
    check(functions.deviceType(tensor, &number), "tell a tensor's device");
    facts[2] = number;
    check(functions.deviceIndex(tensor, &number), "tell a tensor's device");
    facts[3] = number;
    void* address = nullptr;
    check(functions.dataPointer(tensor, &address), "tell a tensor's address");
    facts[4] = reinterpret_cast<int64_t>(address);
    int64_t* sizes = nullptr;
    int64_t* strides = nullptr;
    check(functions.sizes(tensor, &sizes), "tell a tensor's sizes");
    check(functions.strides(tensor, &strides), "tell a tensor's strides");
    for (int64_t i = 0; i < facts[0] && i < 4; i++) {
        facts[5 + i] = sizes[i];
        facts[9 + i] = strides[i];
    }
    facts[13] = functions.requiresGradient(at(tensor).implementation);
    facts[14] = 1;
    facts[15] = 1;
    for (int64_t i = facts[0] - 1; i >= 0; i--) {
        facts[15] &= sizes[i] == 1 || strides[i] == facts[14];
        facts[14] *= sizes[i];
    }
}

// A tensor whose elements mean nothing yet. Its handle is the caller's, as all that the following return.
inline void* empty(int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype, int32_t device,
                   int32_t index) {
    void* handle = nullptr;
    check(functions.emptyStrided(dim, sizes, strides, dtype, device, index, &handle), "allocate a tensor");
    return handle;
}

inline void copy(void* to, void* from) { check(functions.copy(to, from, 0), "copy a tensor"); }

// The same elements without their history.
inline void* detach(void* tensor) { return Handle::of([&] { return functions.detach(at(tensor)); }).release(); }

inline void free(void* tensor) { const Handle last(tensor); }

inline int64_t version(void* tensor) { return functions.version(&at(tensor)); }

// The stream that this thread's work on a device goes to; null is the default one.
inline void* currentCudaStream(int32_t device) {
    void* stream = nullptr;
    if (!functions.currentCudaStream) {
        throw std::runtime_error("PyTorch has failed to tell the current stream: its libtorch_cuda.so is not loaded");
    }
    check(functions.currentCudaStream(device, &stream), "tell the current stream");
    return stream;
}

// Told of a gradient: of an input, 0 to 3, or of the result, 4. Returns the handle of what goes on in its place.
using GradientHook = void* (*)(int64_t node, int32_t which, void* gradient);
// Told that nothing refers to a node's graph any more.
using GraphGone = void (*)(int64_t node);

struct Node {
    const int64_t id;
    const GradientHook hook;
    const GraphGone gone;
    std::atomic<int> owners;
};

// One of a node's owners, the last of which tells that the graph is gone. std::shared_ptr would ask for glibc 2.32.
class Owner {
public:
    explicit Owner(Node* node) : node_(node) {}
    Owner(const Owner& other) : node_(other.node_) { node_->owners++; }
    Owner& operator=(const Owner&) = delete;
    ~Owner() {
        if (--node_->owners == 0) {
            node_->gone(node_->id);
            delete node_;
        }
    }
    const Node* operator->() const { return node_; }

private:
    Node* const node_;
};

inline void addHook(const Opaque& tensor, const Owner& node, int32_t which) {
    functions.registerHook(&tensor, [node, which](const Opaque& gradient) {
        void* handle = node->hook(node->id, which, const_cast<Opaque*>(&gradient));
        if (!handle) {
            throw std::runtime_error("Java has no gradient to give; the virtual machine may be ending");
        }
        const Opaque replacement = at(handle);
        ::operator delete(handle);  // its reference goes on
        return replacement;
    });
}

// Makes out, which something else has computed, a result of inputs in the graph. Java cannot define a node of a graph,
// so one is made of nodes that PyTorch has; they write no element.
//
//   q ------ alias -- sum --+
//   k ------ alias -- sum --+-- stacked -- none taken of them -- put_ nowhere in -- out
//   v ------ alias -- sum --+
//   sinks -- alias -- sum --+
//
// The hook of out computes all gradients, those of the aliases give them on in place of what comes down the graph: one
// zero seen as all elements, which takes no memory. An input is null if it requires no gradient. dtype is that of out.
inline void attach(void* out, void* q, void* k, void* v, void* sinks, int32_t dtype, int32_t device, int32_t index,
                   int64_t id, GradientHook hook, GraphGone gone) {
    const Owner node(new Node{id, hook, gone, {1}});
    const int64_t none = 0;
    const int64_t one = 1;
    const int32_t int64Type = 4;
    const Handle nowhere(empty(1, &none, &one, int64Type, device, index));
    constexpr int32_t kInputs = 4;
    void* const inputs[kInputs] = {q, k, v, sinks};
    Handle sums[kInputs];
    Opaque numbers[kInputs];  // what the handles refer to
    size_t count = 0;
    for (int32_t which = 0; which < kInputs; which++) {
        if (inputs[which]) {
            const Handle alias = Handle::of([&] { return functions.alias(at(inputs[which])); });
            addHook(*alias, node, which);
            sums[count] = Handle::of([&] { return functions.sum(*alias, static_cast<int8_t>(dtype)); });
            numbers[count].implementation = (*sums[count]).implementation;
            count++;
        }
    }
    const Handle stacked = Handle::of([&] { return functions.stack({numbers, count}, 0); });
    const Handle taken = Handle::of([&] { return functions.take(*stacked, *nowhere); });
    functions.put(at(out), *nowhere, *taken, false);
    addHook(at(out), node, kInputs);
}

}  // namespace flashring::libtorch

#endif
