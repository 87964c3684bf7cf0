// Times the CUDA kernels without a JVM: shape, milliseconds, TFLOP/s and GB/s of operands, the median of ten runs, and
// the host microseconds of a forward call until it is queued and returns, the least of twenty loops. Options: --kernel
// reference|mma, --dtype bf16|fp16|fp32, --dim D, --seq S, --batch B, --heads H, --kv-heads H, --deterministic.
#include <chrono>
#include <cstring>
#include <random>

#include "cuda/device_case.h"
#include "flops.h"

namespace {

struct Shape2 {
    int64_t batch, heads, kvHeads, length, dim;
    bool causal;
};

struct Options {
    int32_t kernel = FLASHRING_KERNEL_AUTO, dtype = FLASHRING_BFLOAT16, deterministic = 0;
    int64_t dim = 0, length = 16384, batch = 1, heads = 16, kvHeads = 0;
};

// Random 16-bit or 32-bit elements of about N(0, 1), made on the host once and repeated.
DeviceMemory randomTensor(int64_t elements, int32_t dtype) {
    const int64_t period = std::min<int64_t>(elements, 1 << 20), size = sizeOf(dtype);
    std::mt19937_64 random(7);
    std::normal_distribution<double> normal;
    std::vector<char> block(static_cast<size_t>(period * size));
    for (int64_t i = 0; i < period; ++i) encode(dtype, block.data() + i * size, normal(random));
    DeviceMemory memory(static_cast<size_t>(elements * size));
    for (int64_t done = 0; done < elements; done += period) {
        CUDA(cudaMemcpy(memory.data() + done * size, block.data(),
                        static_cast<size_t>(std::min(period, elements - done) * size), cudaMemcpyHostToDevice));
    }
    return memory;
}

void require(int32_t status) {
    if (status != FLASHRING_OK) {
        std::fprintf(stderr, "%s\n", flashring_last_error());
        std::exit(1);
    }
}

template <class Body>
double medianMilliseconds(const Body& body) {
    cudaEvent_t start, stop;
    CUDA(cudaEventCreate(&start));
    CUDA(cudaEventCreate(&stop));
    std::vector<float> times(10);
    for (int warmup = 0; warmup < 3; ++warmup) body();
    for (float& time : times) {
        CUDA(cudaEventRecord(start));
        body();
        CUDA(cudaEventRecord(stop));
        CUDA(cudaEventSynchronize(stop));
        CUDA(cudaEventElapsedTime(&time, start, stop));
    }
    CUDA(cudaEventDestroy(start));
    CUDA(cudaEventDestroy(stop));
    std::sort(times.begin(), times.end());
    return (times[4] + times[5]) / 2;
}

// A loop queues some 20 ms, and never so much that the stream makes the host wait.
template <class Body>
double hostMicroseconds(const Body& body, double milliseconds) {
    using Micros = std::chrono::duration<double, std::micro>;
    const int calls = static_cast<int>(std::clamp(20 / milliseconds, 1.0, 100.0));
    double least = INFINITY;
    for (int loop = 0; loop < 20; ++loop) {
        CUDA(cudaDeviceSynchronize());
        const auto start = std::chrono::steady_clock::now();
        for (int call = 0; call < calls; ++call) body();
        least = std::min(least, Micros(std::chrono::steady_clock::now() - start).count() / calls);
    }
    CUDA(cudaDeviceSynchronize());
    return least;
}

void bench(const Options& o, int64_t dim, bool causal) {
    const int64_t kvHeads = o.kvHeads ? o.kvHeads : o.heads;
    const int64_t qElements = o.batch * o.length * o.heads * dim, kvElements = o.batch * o.length * kvHeads * dim,
                  rows = o.batch * o.length * o.heads;
    const DeviceMemory q = randomTensor(qElements, o.dtype), k = randomTensor(kvElements, o.dtype),
                       v = randomTensor(kvElements, o.dtype);
    const DeviceMemory dout = randomTensor(qElements, o.dtype), out(static_cast<size_t>(qElements * sizeOf(o.dtype)));
    const DeviceMemory lse(static_cast<size_t>(rows * 4)), delta(static_cast<size_t>(rows * 4));
    const DeviceMemory dq(static_cast<size_t>(qElements * 4)), dk(static_cast<size_t>(kvElements * 4)),
        dv(static_cast<size_t>(kvElements * 4));
    const flashring_range range{0, o.length, 1};
    const DeviceMemory ranges(sizeof range);
    CUDA(cudaMemcpy(ranges.data(), &range, sizeof range, cudaMemcpyHostToDevice));

    flashring_step step{};
    step.size = sizeof step;
    step.dtype = o.dtype;
    step.kernel = o.kernel;
    step.deterministic = o.deterministic;
    step.batch = o.batch;
    step.q_len = step.kv_len = o.length;
    step.q_heads = o.heads;
    step.kv_heads = kvHeads;
    step.head_dim = step.value_dim = dim;
    step.softmax_scale = 1 / std::sqrt(static_cast<double>(dim));
    step.q_positions = step.kv_positions = {reinterpret_cast<const flashring_range*>(ranges.data()), 1};
    step.mask = {-1, causal ? 0 : -1, nullptr, 0, nullptr};
    const auto tensor = [&](const DeviceMemory& memory, int64_t heads, int64_t width) {
        return flashring_tensor{memory.data(), o.length * heads * width, heads * width, width};
    };
    step.q = tensor(q, o.heads, dim);
    step.k = tensor(k, kvHeads, dim);
    step.v = tensor(v, kvHeads, dim);
    step.out = tensor(out, o.heads, dim);
    step.dout = tensor(dout, o.heads, dim);
    step.lse = tensor(lse, o.heads, 1);
    step.delta = tensor(delta, o.heads, 1);
    step.dq = tensor(dq, o.heads, dim);
    step.dk = tensor(dk, kvHeads, dim);
    step.dv = tensor(dv, kvHeads, dim);
    int64_t forwardBytes = 0, backwardBytes = 0;
    require(flashring_workspace_bytes(&step, FLASHRING_FORWARD, &forwardBytes));
    require(flashring_workspace_bytes(&step, FLASHRING_BACKWARD, &backwardBytes));
    const DeviceMemory workspace(static_cast<size_t>(std::max(forwardBytes, backwardBytes)));
    step.workspace = workspace.data();
    step.workspace_bytes = std::max(forwardBytes, backwardBytes);

    step.flags = FLASHRING_FINISH;
    const auto forwardStep = [&] { require(flashring_forward_step(&step)); };
    const double forward = medianMilliseconds(forwardStep), host = hostMicroseconds(forwardStep, forward);
    const double deltas = medianMilliseconds([&] { require(flashring_delta(&step)); });
    step.flags = 0;
    const double backward = medianMilliseconds([&] { require(flashring_backward_step(&step)); });
    const double pairs = static_cast<double>(rows) * static_cast<double>(o.length) * (causal ? 0.5 : 1),
                 width = static_cast<double>(dim);
    const double bytes = static_cast<double>(sizeOf(o.dtype) * 2 * (qElements + kvElements));
    std::printf(
        "%-8s B%lld H%lld/%lld S%lld D%-3lld %-6s  forward %8.3f ms %6.1f TFLOP/s %6.1f GB/s %5.1f us of host   delta "
        "%6.3f ms   backward %8.3f ms %6.1f TFLOP/s\n",
        nameOf(o.dtype), static_cast<long long>(o.batch), static_cast<long long>(o.heads),
        static_cast<long long>(kvHeads), static_cast<long long>(o.length), static_cast<long long>(dim),
        causal ? "causal" : "full", forward, forwardFlops(pairs, width) / forward * 1e-9, bytes / forward * 1e-6, host,
        deltas, backward, backwardFlops(pairs, width) / backward * 1e-9);
    std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
    Options o;
    for (int i = 1; i < count; ++i) {
        const auto is = [&](const char* name) { return !std::strcmp(arguments[i], name); };
        if (is("--deterministic")) {
            o.deterministic = 1;
            continue;
        }
        if (i + 1 == count) {
            std::fprintf(stderr, "%s needs a value, or is not an option\n", arguments[i]);
            return 2;
        }
        const char* const value = arguments[i + 1];
        if (is("--kernel"))
            o.kernel = !std::strcmp(value, "reference") ? FLASHRING_KERNEL_REFERENCE : FLASHRING_KERNEL_MMA;
        else if (is("--dtype"))
            o.dtype = !std::strcmp(value, "fp32")   ? FLASHRING_FLOAT32
                      : !std::strcmp(value, "fp16") ? FLASHRING_FLOAT16
                                                    : FLASHRING_BFLOAT16;
        else if (is("--dim")) o.dim = std::atoll(value);
        else if (is("--seq")) o.length = std::atoll(value);
        else if (is("--batch")) o.batch = std::atoll(value);
        else if (is("--heads")) o.heads = std::atoll(value);
        else if (is("--kv-heads")) o.kvHeads = std::atoll(value);
        else {
            std::fprintf(stderr, "%s is not an option\n", arguments[i]);
            return 2;
        }
        ++i;
    }
    if (flashring_device_count() == 0) {
        std::printf("skipped: %s\n", flashring_device_cause());
        return 77;
    }
    for (const int64_t dim : {64, 96, 128, 192, 256}) {
        if (o.dim && o.dim != dim) continue;
        for (const bool causal : {false, true}) bench(o, dim, causal);
    }
    return 0;
}
