// Runs an attention_case.h problem on a CUDA device: mirrors its buffers, steps and workspaces there.
#ifndef FLASHRING_TESTS_DEVICE_CASE_H
#define FLASHRING_TESTS_DEVICE_CASE_H

#include <cuda_runtime_api.h>

#include "attention_case.h"

#define CUDA(call)                                                                          \
    do {                                                                                    \
        const cudaError_t error_ = (call);                                                  \
        if (error_ != cudaSuccess) {                                                        \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(error_)); \
            std::exit(1);                                                                   \
        }                                                                                   \
    } while (0)

inline void skipWithoutDevice() {
    if (flashring_device_count() > 0) return;
    std::printf("skipped: %s\n", flashring_device_cause());
    std::exit(77);
}

class DeviceMemory {
public:
    explicit DeviceMemory(size_t bytes) { CUDA(cudaMalloc(&data_, bytes ? bytes : 1)); }
    DeviceMemory(DeviceMemory&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;
    ~DeviceMemory() { cudaFree(data_); }

    char* data() const { return static_cast<char*>(data_); }

private:
    void* data_ = nullptr;
};

// Device copies of the buffers of one case, and the steps that run on them.
class DeviceCase {
public:
    DeviceCase(Case& c, Results& r) : case_(c), results_(r) {
        for (Buffer* buffer :
             {&c.q, &c.k, &c.v, &c.dout, &r.out, &r.acc, &r.lse, &r.delta, &r.dq, &r.dk, &r.dv, &r.lseLow, &r.dsinks}) {
            mirrors_.push_back({buffer, upload(buffer->memory(), buffer->memoryBytes())});
        }
        CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    }

    ~DeviceCase() { cudaStreamDestroy(stream_); }
    DeviceCase(const DeviceCase&) = delete;
    DeviceCase& operator=(const DeviceCase&) = delete;

    // Forward in blocks of keys that end at `splits`, the first of them from the state in (acc, lse) where it
    // `resumes`; the results come back into the case's buffers.
    void forward(int32_t kernel, std::vector<int64_t> splits, bool resumes = false) {
        queueForward(kernel, std::move(splits), resumes);
        download();
    }

    // Forward, delta and backward likewise.
    void run(int32_t kernel, std::vector<int64_t> splits, bool deterministic) {
        queueForward(kernel, splits, false);
        splits.push_back(case_.shape.kvLen);
        Step whole(case_, results_, kernel, 0, case_.shape.kvLen);
        toDevice(whole.raw);
        require(flashring_delta(&whole.raw), "delta");
        int64_t first = 0;
        for (size_t i = 0; i < splits.size(); ++i) {
            step(kernel, first, splits[i] - first, i > 0 ? FLASHRING_ADD_DQ : 0, deterministic, FLASHRING_BACKWARD);
            first = splits[i];
        }
        download();
    }

    // One backward step over all keys, from the case's out, lse and delta; the gradients come back into its buffers.
    void backward(int32_t kernel, int32_t flags, bool deterministic) {
        step(kernel, 0, case_.shape.kvLen, flags, deterministic, FLASHRING_BACKWARD);
        download();
    }

    // The whole forward step on the device's copies, without acc as most callers have it, but for its workspace. The
    // results come back by download().
    flashring_step whole(int32_t kernel) {
        Step step(case_, results_, kernel, 0, case_.shape.kvLen);
        toDevice(step.raw);
        step.raw.flags = FLASHRING_FINISH;
        step.raw.acc = {};
        require(flashring_workspace_bytes(&step.raw, FLASHRING_FORWARD, &step.raw.workspace_bytes), "workspace");
        return step.raw;
    }

    void download() {
        CUDA(cudaStreamSynchronize(stream_));
        for (size_t i = kOperands; i < mirrors_.size(); ++i) {
            const Mirror& mirror = mirrors_[i];
            CUDA(cudaMemcpy(mirror.buffer->memory(), mirror.device.data(), mirror.buffer->memoryBytes(),
                            cudaMemcpyDeviceToHost));
        }
    }

private:
    static constexpr size_t kOperands = 4;  // mirrors that no step writes: q, k, v, dout

    struct Mirror {
        Buffer* buffer;
        DeviceMemory device;
    };

    static DeviceMemory upload(const void* source, size_t bytes) {
        DeviceMemory memory(bytes);
        CUDA(cudaMemcpy(memory.data(), source, bytes, cudaMemcpyHostToDevice));
        // the copy may return before it has arrived, and other streams do not wait for it
        CUDA(cudaStreamSynchronize(nullptr));
        return memory;
    }

    template <class T>
    const T* keep(const T* source, int64_t count) {
        if (!source) return nullptr;
        kept_.push_back(upload(source, static_cast<size_t>(count) * sizeof(T)));
        return reinterpret_cast<const T*>(kept_.back().data());
    }

    void toDevice(flashring_step& raw) {
        raw.device = 0;
        raw.stream = stream_;
        for (flashring_tensor* tensor : {&raw.q, &raw.k, &raw.v, &raw.out, &raw.acc, &raw.lse, &raw.dout, &raw.delta,
                                         &raw.dq, &raw.dk, &raw.dv, &raw.lse_low}) {
            for (const Mirror& mirror : mirrors_) {
                char* const address = static_cast<char*>(tensor->data);
                char* const base = mirror.buffer->memory();
                if (address >= base && address < base + mirror.buffer->memoryBytes()) {
                    tensor->data = mirror.device.data() + (address - base);
                    break;
                }
            }
        }
        const int64_t headBytes = raw.q_heads * sizeOf(accType(raw.dtype));
        raw.sinks = keep(static_cast<const char*>(raw.sinks), headBytes);
        raw.alibi_slopes = keep(static_cast<const char*>(raw.alibi_slopes), headBytes);
        if (raw.dsinks) {
            raw.dsinks = mirrors_.back().device.data() + (static_cast<char*>(raw.dsinks) - results_.dsinks.memory());
        }
        raw.q_positions.ranges = keep(raw.q_positions.ranges, raw.q_positions.count);
        raw.kv_positions.ranges = keep(raw.kv_positions.ranges, raw.kv_positions.count);
        raw.mask.prefix_lengths = keep(raw.mask.prefix_lengths, raw.mask.cu_seqlens ? raw.mask.documents : 1);
        raw.mask.cu_seqlens = keep(raw.mask.cu_seqlens, raw.mask.documents + 1);
    }

    void queueForward(int32_t kernel, std::vector<int64_t> splits, bool resumes) {
        splits.push_back(case_.shape.kvLen);
        int64_t first = 0;
        for (size_t i = 0; i < splits.size(); ++i) {
            const int32_t flags =
                (i > 0 || resumes ? FLASHRING_RESUME : 0) | (i + 1 == splits.size() ? FLASHRING_FINISH : 0);
            step(kernel, first, splits[i] - first, flags, false, FLASHRING_FORWARD,
                 case_.keepsLow && !resumes && splits.size() > 1);
            first = splits[i];
        }
    }

    void step(int32_t kernel, int64_t first, int64_t count, int32_t flags, bool deterministic,
              flashring_direction direction, bool keepsLow = false) {
        constexpr size_t kFence = 256;
        Step step(case_, results_, kernel, first, count);
        if (keepsLow) step.raw.lse_low = results_.lseLow.tensor();
        toDevice(step.raw);
        step.raw.flags = flags;
        step.raw.deterministic = deterministic;
        require(flashring_workspace_bytes(&step.raw, direction, &step.raw.workspace_bytes), "workspace");
        const size_t bytes = static_cast<size_t>(step.raw.workspace_bytes);
        const std::vector<char> canary(bytes + kFence, 0x5a);
        kept_.push_back(upload(canary.data(), canary.size()));
        step.raw.workspace = kept_.back().data();
        require(direction == FLASHRING_FORWARD ? flashring_forward_step(&step.raw) : flashring_backward_step(&step.raw),
                direction == FLASHRING_FORWARD ? "forward" : "backward");
        CUDA(cudaStreamSynchronize(stream_));
        std::vector<char> after(kFence);
        CUDA(cudaMemcpy(after.data(), kept_.back().data() + bytes, kFence, cudaMemcpyDeviceToHost));
        CHECK(std::equal(after.begin(), after.end(), canary.begin()), "%s: wrote past the workspace",
              case_.describe().c_str());
    }

    void require(int32_t status, const char* what) {
        CHECK(status == FLASHRING_OK, "%s: %s: %s", what, case_.describe().c_str(), flashring_last_error());
    }

    Case& case_;
    Results& results_;
    std::vector<Mirror> mirrors_;
    std::vector<DeviceMemory> kept_;
    cudaStream_t stream_ = nullptr;
};

#endif
