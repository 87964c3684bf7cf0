// Faults of other libraries in steps over caches, on a GPU: those of cache_faults.h, and two of what kernels leave
// behind.
#include "cache_faults.h"
#include "cuda/comparison.h"
#include "cuda/device_cache.h"

namespace {

Outcome onDevice(CacheCase& c) {
    DeviceCache device(c, Cache::Numbered, 3);
    device.queue();
    return device.results();
}

void near(const CacheCase& c, const char* fault, const Outcome& actual, const Outcome& expected) {
    const DeviceBars bars = mmaBars(c.dtype);
    const std::string context = std::string(fault) + " " + c.describe();
    checkClose(context, "out", actual.out, expected.out, bars.out);
    checkClose(context, "acc", actual.acc, expected.acc, bars.acc);
    checkClose(context, "lse", actual.lse, expected.lse, bars.lse);
}

class Stream {
public:
    Stream() { CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
    ~Stream() { cudaStreamDestroy(stream_); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    cudaStream_t get() const { return stream_; }

private:
    cudaStream_t stream_ = nullptr;
};

// A CUDA graph of what queue() queues.
class Graph {
public:
    template <class Queue>
    Graph(const Stream& stream, const Queue& queue) : stream_(stream.get()) {
        cudaGraph_t captured;
        CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
        queue();
        CUDA(cudaStreamEndCapture(stream_, &captured));
        CUDA(cudaGraphInstantiate(&graph_, captured, 0));
        CUDA(cudaGraphDestroy(captured));
    }
    ~Graph() { cudaGraphExecDestroy(graph_); }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    void replay() const { CUDA(cudaGraphLaunch(graph_, stream_)); }

private:
    cudaStream_t stream_;
    cudaGraphExec_t graph_ = nullptr;
};

// Blocks without work read what an earlier step had left in the workspace: in graphs of steps whose rows are not cut,
// which have more blocks than rows (FlashInfer 4002).
long workspaceOfOthers(int32_t dtype) {
    long cases = 0;
    for (const std::vector<int32_t>& lengths : {std::vector<int32_t>{3000, 0, 5, 1024}, {5, 0, 70, 1}})
        for (const int64_t capacity : {3000, 50000})
            for (const int32_t invariant : {0, 1}) {
                CacheCase c = smallCase(dtype, lengths, capacity, 4, 2);
                const Stream stream;
                DeviceCache device(c, Cache::Numbered, 3, stream.get());
                device.raw.batch_invariant = invariant;
                device.place();
                device.queue();
                const Outcome expected = device.results();
                const Graph graph(stream, [&] { device.queue(); });
                for (const int filled : {0, 0x7f, 0xff}) {
                    CUDA(cudaMemsetAsync(device.raw.workspace, filled, static_cast<size_t>(device.raw.workspace_bytes),
                                         stream.get()));
                    graph.replay();
                    CHECK(device.results().sameBits(expected), "FlashInfer 4002: %s, invariant %d: workspace of %x",
                          c.describe().c_str(), invariant, filled);
                    ++cases;
                }
            }
    return cases;
}

// Kernels that start before the one ahead of them is through read lengths that it had yet to write (FlashInfer 4199):
// each step here follows the append that says how long its rows are, other ones than the step before had.
long lengthsJustWritten(int32_t dtype) {
    constexpr int kSteps = 40;
    const std::vector<int32_t> lengths[] = {{100, 1, 3000}, {2000, 40, 5}};
    CacheCase c = smallCase(dtype, {2000, 40, 3000}, 3000);
    std::vector<Outcome> expected;
    for (const std::vector<int32_t>& held : lengths) {
        c.lengths = held;
        DeviceCache alone(c, Cache::Contiguous, 1);
        alone.queue();
        expected.push_back(alone.results());
    }
    for (const bool captured : {false, true}) {
        const Stream stream;
        DeviceCache device(c, Cache::Contiguous, 1, stream.get());
        flashring_append_args appends[2]{};
        Buffer last[2][2];  // keys and values of the rows' last tokens
        for (int n = 0; n < 2; ++n) {
            flashring_append_args& args = appends[n];
            args.size = sizeof args;
            args.dtype = dtype;
            args.batch = c.batch;
            args.new_len = 1;
            args.kv_len = c.capacity;
            args.kv_heads = c.keyHeads;
            args.head_dim = c.headDim;
            args.value_dim = c.valueDim;
            args.k = device.raw.k;
            args.v = device.raw.v;
            args.stream = stream.get();
            const Buffer* const whole[] = {&c.k, &c.v};
            flashring_tensor* const tensors[] = {&args.new_k, &args.new_v};
            for (int part = 0; part < 2; ++part) {
                Buffer& tokens = last[n][part] = Buffer(dtype, c.batch, 1, c.keyHeads, c.headDim, Order::BSHD);
                tokens.forEach([&](int64_t b, int64_t, int64_t h, int64_t d) {
                    tokens.set(b, 0, h, d, whole[part]->get(b, lengths[n][static_cast<size_t>(b)] - 1, h, d));
                });
                *tensors[part] = tokens.tensor();
                device.move(*tensors[part], tokens);
            }
            std::vector<int32_t> before = lengths[n];
            for (int32_t& held : before) --held;
            args.kv_lengths = device.upload(before);
            args.lengths_after = const_cast<int32_t*>(device.raw.kv_lengths);
        }
        std::vector<Outcome> results(kSteps, Outcome(c));
        std::vector<flashring_step> steps(kSteps, device.raw);
        for (size_t n = 0; n < kSteps; ++n) {
            const auto place = [&](flashring_tensor& tensor, Buffer& buffer) {
                tensor = buffer.tensor();
                device.move(tensor, buffer);
            };
            place(steps[n].out, results[n].out);
            place(steps[n].acc, results[n].acc);
            place(steps[n].lse, results[n].lse);
        }
        const auto queue = [&] {
            for (size_t n = 0; n < kSteps; ++n) {
                CHECK(flashring_append(&appends[n % 2]) == FLASHRING_OK, "%s", flashring_last_error());
                CHECK(flashring_forward_step(&steps[n]) == FLASHRING_OK, "%s", flashring_last_error());
            }
        };
        if (captured) {
            const Graph graph(stream, queue);
            graph.replay();
            CUDA(cudaStreamSynchronize(stream.get()));
        } else {
            queue();
        }
        device.results();
        for (size_t n = 0; n < kSteps; ++n) {
            CHECK(results[n].sameBits(expected[n % 2]), "FlashInfer 4199: %s, captured %d: step %zu has other lengths",
                  c.describe().c_str(), captured, n);
        }
    }
    return 2 * kSteps;
}

}  // namespace

int main() {
    skipWithoutDevice();
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        cases += cacheFaults(dtype, onDevice, near) + workspaceOfOthers(dtype) + lengthsJustWritten(dtype);
    }
    return finish("cuda faults", cases);
}
