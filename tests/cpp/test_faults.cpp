// Faults of other libraries in steps over caches, on the host: those of cache_faults.h, and two of memory.
#include <sys/mman.h>

#include "cache_faults.h"
#include "cache_run.h"

namespace {

Outcome onHost(CacheCase& c) { return forward(c, Cache::Numbered, FLASHRING_KERNEL_AUTO); }

// What an earlier step has left in the workspace was read as if this one had put it there (FlashInfer 4002).
long workspaceOfOthers(int32_t dtype) {
    CacheCase c = smallCase(dtype, {3000, 0, 5, 1024}, 3000, 4, 2);
    Stored cache(c, Cache::Contiguous, 1);
    Outcome expected(c);
    flashring_step raw = stepOf(c, cache, expected, FLASHRING_KERNEL_AUTO, FLASHRING_FINISH);
    run(raw, c);
    for (const char filled : {'\0', '\xff'}) {
        Outcome actual(c);
        raw = stepOf(c, cache, actual, FLASHRING_KERNEL_AUTO, FLASHRING_FINISH);
        run(raw, c, filled);
        CHECK(actual.sameBits(expected), "FlashInfer 4002: %s: workspace of %d", c.describe().c_str(), filled);
    }
    return 2;
}

// Memory that may be read up to some byte and no further.
class Guarded {
public:
    Guarded(size_t readable, size_t bytes) : bytes_(bytes) {
        memory_ = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory_ == MAP_FAILED || mprotect(memory_, readable, PROT_READ | PROT_WRITE) != 0) {
            std::perror("mmap");
            std::exit(1);
        }
    }
    ~Guarded() { munmap(memory_, bytes_); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    void* memory() const { return memory_; }

private:
    void* memory_;
    size_t bytes_;
};

// Work followed the room of a cache, not its length (ONNX Runtime 29686). A read behind the length ends this test.
long roomThatNobodyReads(int32_t dtype, int64_t group) {
    constexpr int64_t kLength = 4096, kRoom = int64_t{1} << 22;  // whole pages of memory
    CacheCase c = smallCase(dtype, {kLength}, kLength, group);
    c.k = Buffer(dtype, 1, kLength, c.keyHeads, c.headDim, Order::BSHD);
    c.v = Buffer(dtype, 1, kLength, c.keyHeads, c.valueDim, Order::BSHD);
    for (Buffer* buffer : {&c.k, &c.v}) {
        buffer->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
            buffer->set(b, s, h, d, static_cast<double>((s * 7 + h * 5 + d * 3) % 11 - 5) / 8);
        });
    }
    const Outcome expected = forward(c, Cache::Contiguous, FLASHRING_KERNEL_AUTO);
    const auto ofKey = static_cast<size_t>(c.keyHeads * c.headDim * sizeOf(dtype));
    const Guarded keys(kLength * ofKey, kRoom * ofKey), values(kLength * ofKey, kRoom * ofKey);
    Stored cache(c, Cache::Contiguous, 1);
    Outcome actual(c);
    flashring_step raw = stepOf(c, cache, actual, FLASHRING_KERNEL_AUTO, FLASHRING_FINISH);
    std::memcpy(keys.memory(), raw.k.data, kLength * ofKey);
    std::memcpy(values.memory(), raw.v.data, kLength * ofKey);
    raw.k.data = keys.memory();
    raw.v.data = values.memory();
    raw.kv_len = kRoom;
    run(raw, c);
    CHECK(actual.sameBits(expected), "ONNX Runtime 29686: %s: room changes bits", c.describe().c_str());
    return 1;
}

}  // namespace

int main() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_FLOAT64, FLASHRING_FLOAT32, FLASHRING_BFLOAT16, FLASHRING_FLOAT16}) {
        cases += cacheFaults(dtype, onHost, expectClose) + workspaceOfOthers(dtype);
        for (const int64_t group : {1, 16}) cases += roomThatNobodyReads(dtype, group);
    }
    return finish("faults", cases);
}
