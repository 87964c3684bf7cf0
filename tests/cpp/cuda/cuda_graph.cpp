// Steps captured in a CUDA graph: forward in two steps, delta and backward in two, replayed fifty times on other inputs
// at the same addresses, beside plain calls: the same bits, but for gradients that are gathered in no certain order.
#include <random>

#include "cuda/device_case.h"

namespace {

constexpr int kReplays = 50;
constexpr int64_t kLength = 333, kQHeads = 4, kKvHeads = 2, kFirstKeys = 150;

struct Way {
    int32_t kernel, dtype;
    int64_t dim;
    bool deterministic, documents;
};

// Normal numbers of a type, made once: a million of them.
const std::vector<char>& normals(int32_t dtype) {
    static std::vector<char> pools[2];
    std::vector<char>& pool = pools[dtype == FLASHRING_FLOAT16];
    if (pool.empty()) {
        std::mt19937_64 random(7);
        std::normal_distribution<double> normal;
        pool.resize(2 << 20);
        for (size_t i = 0; i < pool.size(); i += 2) encode(dtype, pool.data() + i, normal(random));
    }
    return pool;
}

struct Inputs {
    DeviceMemory q, k, v, dout;
    int64_t dim;
    int32_t dtype;

    Inputs(int32_t type, int64_t width)
        : q(2 * kLength * kQHeads * width),
          k(2 * kLength * kKvHeads * width),
          v(2 * kLength * kKvHeads * width),
          dout(2 * kLength * kQHeads * width),
          dim(width),
          dtype(type) {}

    void draw(uint64_t seed, cudaStream_t stream) {
        std::mt19937_64 random(seed);
        const std::vector<char>& pool = normals(dtype);
        const auto fill = [&](const DeviceMemory& memory, int64_t heads) {
            const size_t bytes = static_cast<size_t>(2 * kLength * heads * dim);
            const size_t from = random() % ((pool.size() - bytes) / 2) * 2;
            CUDA(cudaMemcpyAsync(memory.data(), pool.data() + from, bytes, cudaMemcpyHostToDevice, stream));
        };
        fill(q, kQHeads);
        fill(k, kKvHeads);
        fill(v, kKvHeads);
        fill(dout, kQHeads);
    }
};

// What a chain of steps writes, with what it needs beside the inputs.
class Chain {
public:
    Chain(const Way& way, const Inputs& inputs, cudaStream_t stream) : stream_(stream) {
        const int64_t rows = kLength * kQHeads, d = way.dim;
        const flashring_range ranges[] = {{0, kLength, 1}, {0, kFirstKeys, 1}, {kFirstKeys, kLength - kFirstKeys, 1}};
        const int64_t bounds[] = {0, 100, 101, 300, kLength};
        char* const table = upload(ranges, sizeof ranges);
        flashring_step s{};
        s.size = sizeof s;
        s.dtype = way.dtype;
        s.kernel = way.kernel;
        s.deterministic = way.deterministic;
        s.batch = 1;
        s.q_len = s.kv_len = kLength;
        s.q_heads = kQHeads;
        s.kv_heads = kKvHeads;
        s.head_dim = s.value_dim = d;
        s.softmax_scale = 1 / std::sqrt(static_cast<double>(d));
        s.q_positions = s.kv_positions = {reinterpret_cast<const flashring_range*>(table), 1};
        s.mask = {-1, 0, nullptr, 0, nullptr};
        if (way.documents) {
            s.mask.cu_seqlens = reinterpret_cast<const int64_t*>(upload(bounds, sizeof bounds));
            s.mask.documents = 4;
        }
        s.stream = stream;
        s.q = tensor(inputs.q.data(), kQHeads, d);
        s.k = tensor(inputs.k.data(), kKvHeads, d);
        s.v = tensor(inputs.v.data(), kKvHeads, d);
        s.dout = tensor(inputs.dout.data(), kQHeads, d);
        s.out = tensor(result("out", 2 * rows * d), kQHeads, d);
        s.acc = tensor(made(4 * rows * d), kQHeads, d);
        s.lse = tensor(result("lse", 4 * rows), kQHeads, 1);
        s.lse_low = tensor(made(4 * rows), kQHeads, 1);
        s.delta = tensor(made(4 * rows), kQHeads, 1);
        s.dq = tensor(result("dq", 4 * rows * d), kQHeads, d);
        s.dk = tensor(result("dk", 4 * kLength * kKvHeads * d), kKvHeads, d);
        s.dv = tensor(result("dv", 4 * kLength * kKvHeads * d), kKvHeads, d);
        int64_t forward = 0, backward = 0;
        require(flashring_workspace_bytes(&s, FLASHRING_FORWARD, &forward));
        require(flashring_workspace_bytes(&s, FLASHRING_BACKWARD, &backward));
        s.workspace_bytes = std::max(forward, backward);
        s.workspace = made(s.workspace_bytes);
        whole_ = first_ = second_ = s;
        first_.kv_len = kFirstKeys;
        first_.kv_positions.ranges += 1;
        second_.kv_len = kLength - kFirstKeys;
        second_.kv_positions.ranges += 2;
        const auto skip = [](flashring_tensor& tensor, int64_t size) {
            tensor.data = static_cast<char*>(tensor.data) + kFirstKeys * tensor.stride_seq * size;
        };
        skip(second_.k, 2);
        skip(second_.v, 2);
        skip(second_.dk, 4);
        skip(second_.dv, 4);
    }

    void queue() {
        call(flashring_forward_step, first_, 0);
        call(flashring_forward_step, second_, FLASHRING_RESUME | FLASHRING_FINISH);
        call(flashring_delta, whole_, 0);
        call(flashring_backward_step, first_, 0);
        call(flashring_backward_step, second_, FLASHRING_ADD_DQ);
    }

    void spoil() {
        for (const Result& r : results_) CUDA(cudaMemsetAsync(r.device, 0xff, r.bytes, stream_));
    }

    struct Result {
        const char* name;
        char* device;
        size_t bytes;
    };

    const std::vector<Result>& results() const { return results_; }

private:
    static flashring_tensor tensor(char* data, int64_t heads, int64_t dim) {
        return {data, kLength * heads * dim, heads * dim, dim};
    }

    static void require(int32_t status) { CHECK(status == FLASHRING_OK, "%s", flashring_last_error()); }

    char* made(int64_t bytes) {
        memory_.emplace_back(static_cast<size_t>(bytes));
        return memory_.back().data();
    }

    char* result(const char* name, int64_t bytes) {
        results_.push_back({name, made(bytes), static_cast<size_t>(bytes)});
        return results_.back().device;
    }

    char* upload(const void* source, size_t bytes) {
        char* const device = made(static_cast<int64_t>(bytes));
        CUDA(cudaMemcpy(device, source, bytes, cudaMemcpyHostToDevice));
        CUDA(cudaStreamSynchronize(nullptr));
        return device;
    }

    static void call(int32_t (*entry)(const flashring_step*), flashring_step& step, int32_t flags) {
        step.flags = flags;
        require(entry(&step));
    }

    cudaStream_t stream_;
    std::vector<DeviceMemory> memory_;
    std::vector<Result> results_;
    flashring_step whole_{}, first_{}, second_{};
};

std::vector<char> download(const Chain::Result& result) {
    std::vector<char> host(result.bytes);
    CUDA(cudaMemcpy(host.data(), result.device, result.bytes, cudaMemcpyDeviceToHost));
    return host;
}

// Of the norm of `b`; infinite where anything is not finite.
double normDifference(const std::vector<char>& a, const std::vector<char>& b) {
    double error = 0, size = 0;
    for (size_t i = 0; i < a.size(); i += 4) {
        const double x = decode(FLASHRING_FLOAT32, a.data() + i), y = decode(FLASHRING_FLOAT32, b.data() + i);
        error += (x - y) * (x - y);
        size += y * y;
    }
    return std::isfinite(error) && size > 0 ? std::sqrt(error / size) : INFINITY;
}

void compare(const Way& way, const Chain& replayed, const Chain& plain, int replay) {
    for (size_t i = 0; i < plain.results().size(); ++i) {
        const Chain::Result& r = plain.results()[i];
        const std::vector<char> a = download(replayed.results()[i]), b = download(r);
        const bool gradient = r.name[0] == 'd', exact = !gradient || way.deterministic;
        CHECK(exact ? a == b : normDifference(a, b) <= 1e-5,
              "kernel %d, %s, D%lld%s%s, replay %d: %s is not that of plain calls", way.kernel, nameOf(way.dtype),
              static_cast<long long>(way.dim), way.deterministic ? ", deterministic" : "",
              way.documents ? ", documents" : "", replay, r.name);
    }
}

void check(const Way& way, cudaStream_t stream) {
    Inputs inputs(way.dtype, way.dim);
    Chain captured(way, inputs, stream), plain(way, inputs, stream);
    inputs.draw(1, stream);
    captured.queue();  // a kernel that is used for the first time is loaded then, which a capture might not allow
    CUDA(cudaStreamSynchronize(stream));
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    captured.queue();
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&replay, graph, 0));
    for (int n = 0; n < kReplays; ++n) {
        inputs.draw(static_cast<uint64_t>(2 + n), stream);
        captured.spoil();
        plain.spoil();
        CUDA(cudaGraphLaunch(replay, stream));
        plain.queue();
        CUDA(cudaStreamSynchronize(stream));
        compare(way, captured, plain, n);
    }
    CUDA(cudaGraphExecDestroy(replay));
    CUDA(cudaGraphDestroy(graph));
}

}  // namespace

int main() {
    skipWithoutDevice();
    cudaStream_t stream;
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    long cases = 0;
    for (const int32_t kernel : {FLASHRING_KERNEL_AUTO, FLASHRING_KERNEL_MMA})
        for (const int64_t dim : {64, 128, 192, 256})
            for (const bool deterministic : {false, true})
                for (const bool documents : {false, true}) {
                    const int32_t dtype = dim == 128 ? FLASHRING_FLOAT16 : FLASHRING_BFLOAT16;
                    check({kernel, dtype, dim, deterministic, documents}, stream);
                    ++cases;
                }
    CUDA(cudaStreamDestroy(stream));
    return finish("cuda graph", cases);
}
