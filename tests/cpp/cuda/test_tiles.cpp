// The tile table of the mma kernels, without a GPU: every set fits into the shared memory it is for, its warps share
// each product evenly and have the registers, devices take the set that their limit allows, and the cap in the
// environment is read by its rules.
#include <algorithm>
#include <string>

#include "buffers.h"
#include "common/shared_memory_cap.h"
#include "sm80/tiles.h"

namespace {

using flashring::HeadDims;
using flashring::SharedMemory;

constexpr int kAccumulators = 192;  // of a thread's 255 registers; addresses, fragments and rows need the rest

int tileBytes(int rows, int dim) { return rows * (dim + 8) * 2 - 16; }  // rows 16 bytes apart, but for the last one

// Threads fill whole rows in lanes of the largest power of two that divides a row's 16-byte words.
bool loadsEvenly(int threads, int rows, int dim) {
    int lanes = 1;
    while (dim / 8 % (lanes * 2) == 0) lanes *= 2;
    return threads % lanes == 0 && rows % (threads / lanes) == 0;
}

bool divides(int parts, int whole, int unit) { return parts > 0 && whole % parts == 0 && whole / parts % unit == 0; }

void checkForward(HeadDims dims, SharedMemory memory, const flashring::ForwardTile& t) {
    const int bytes = tileBytes(t.queries, dims.key) + tileBytes(t.keys, dims.key) + tileBytes(t.keys, dims.value);
    const int threads = t.warps * 32, limit = static_cast<int>(memory), kilobytes = limit >> 10;
    CHECK(bytes + 16 <= limit, "forward %d/%d, %d KB: %d bytes", dims.key, dims.value, kilobytes, bytes);
    CHECK(divides(t.warps, t.queries, 16) && t.keys % 16 == 0, "forward %d/%d, %d KB: parts of warps", dims.key,
          dims.value, kilobytes);
    CHECK(loadsEvenly(threads, t.queries, dims.key) && loadsEvenly(threads, t.keys, dims.key) &&
              loadsEvenly(threads, t.keys, dims.value),
          "forward %d/%d, %d KB: loads", dims.key, dims.value, kilobytes);
    const int accumulators = t.queries * (t.keys + dims.value) / threads;
    CHECK(accumulators <= kAccumulators && threads * t.blocksPerSm * 255 <= 65536 - 256,
          "forward %d/%d, %d KB: %d accumulators", dims.key, dims.value, kilobytes, accumulators);
    if (memory == SharedMemory::KB99) {  // of 100 KB a multiprocessor, the driver keeps 1 KB a block
        CHECK(t.blocksPerSm * (bytes + 16 + 1024) <= 100 << 10, "forward %d/%d: %d blocks of %d bytes", dims.key,
              dims.value, t.blocksPerSm, bytes);
    }
}

void checkBackward(HeadDims dims, SharedMemory memory) {
    const flashring::BackwardTile t = flashring::backwardTile(dims, memory);
    const int threads = t.warps * 32, limit = static_cast<int>(memory), kilobytes = limit >> 10;
    const int bytes = tileBytes(t.keys, dims.key) + tileBytes(t.keys, dims.value) +
                      t.queryStages * (tileBytes(t.queries, dims.key) + t.queries * 16) +
                      t.doutStages * tileBytes(t.queries, dims.value) + 2 * tileBytes(t.queries, t.keys);
    CHECK(bytes + 16 <= limit, "backward %d/%d, %d KB: %d bytes", dims.key, dims.value, kilobytes, bytes);
    // Scores in parts of 16 x 16 at least, for all warps or for the first ones.
    const int keyWarps = t.warps / t.scoreQueryWarps, keyPart = std::max(16, t.keys / keyWarps);
    CHECK(divides(t.scoreQueryWarps, t.queries, 16) && t.warps % t.scoreQueryWarps == 0 && t.keys % keyPart == 0 &&
              keyPart % 16 == 0,
          "backward %d/%d, %d KB: scores", dims.key, dims.value, kilobytes);
    const int dimWarps = t.warps / t.gradientKeyWarps, dqDimWarps = t.warps / t.dqQueryWarps;
    CHECK(divides(t.gradientKeyWarps, t.keys, 16) && t.warps % t.gradientKeyWarps == 0 &&
              divides(dimWarps, dims.key, 16) && divides(dimWarps, dims.value, 16),
          "backward %d/%d, %d KB: dk and dv", dims.key, dims.value, kilobytes);
    CHECK(divides(t.dqQueryWarps, t.queries, 16) && t.warps % t.dqQueryWarps == 0 && divides(dqDimWarps, dims.key, 16),
          "backward %d/%d, %d KB: dq", dims.key, dims.value, kilobytes);
    CHECK(loadsEvenly(threads, t.keys, dims.key) && loadsEvenly(threads, t.keys, dims.value) &&
              loadsEvenly(threads, t.queries, dims.key) && loadsEvenly(threads, t.queries, dims.value),
          "backward %d/%d, %d KB: loads", dims.key, dims.value, kilobytes);
    const int scores = 2 * t.queries / t.scoreQueryWarps * std::min(32, keyPart) / 32,
              dq = t.queries * dims.key / threads;
    const int accumulators = t.keys * (dims.key + dims.value) / threads + std::max(scores, dq);
    CHECK(accumulators <= kAccumulators && threads * t.blocksPerSm * 255 <= 65536 - 256,
          "backward %d/%d, %d KB: %d accumulators", dims.key, dims.value, kilobytes, accumulators);
}

// Compute capability and bytes a block of devices there are, of a few without tiles, and under caps.
long checkDevices() {
    const struct {
        int capability, kilobytes;
        SharedMemory tiles;
    } devices[] = {
        // V100, T4, A100
        {70, 96, SharedMemory::None},    {75, 64, SharedMemory::None},    {80, 163, SharedMemory::KB163},
        // A10, Orin, L40S
        {86, 99, SharedMemory::KB99},    {87, 163, SharedMemory::KB99},   {89, 99, SharedMemory::KB99},
        // H200, B200, B300
        {90, 227, SharedMemory::KB227},  {100, 227, SharedMemory::KB227}, {103, 227, SharedMemory::KB227},
        // Thor, RTX 50, Spark
        {110, 227, SharedMemory::KB227}, {120, 99, SharedMemory::KB99},   {121, 99, SharedMemory::KB99},
        {90, 99, SharedMemory::KB99},    {90, 226, SharedMemory::KB99},   {80, 99, SharedMemory::KB99},    // capped
        {90, 98, SharedMemory::None},    {86, 48, SharedMemory::None},
    };
    long cases = 0;
    for (const auto& d : devices) {
        const SharedMemory tiles = flashring::tileSet(d.capability, d.kilobytes << 10);
        CHECK(tiles == d.tiles, "compute capability %d with %d KB takes tiles of %d bytes", d.capability, d.kilobytes,
              static_cast<int>(tiles));
        ++cases;
    }
    return cases;
}

long checkCap() {
    const struct {
        const char* text;
        int bytes;
        const char* cause;
    } caps[] = {
        {nullptr, INT_MAX, nullptr},
        {"99K", 101376, nullptr},
        {"163K", 166912, nullptr},
        {"1000000K", 1024000000, nullptr},
        {"98K", 0, "FLASHRING_CUDA_SHARED_MEMORY = 98K must be at least 99K, which kernels need"},
        {"0K", 0, "FLASHRING_CUDA_SHARED_MEMORY = 0K must be at least 99K, which kernels need"},
        {"", 0, "FLASHRING_CUDA_SHARED_MEMORY = '' must be a number of kilobytes such as 99K"},
        {"99", 0, "FLASHRING_CUDA_SHARED_MEMORY = '99' must be a number of kilobytes such as 99K"},
        {"-99K", 0, "FLASHRING_CUDA_SHARED_MEMORY = '-99K' must be a number of kilobytes such as 99K"},
        {"99 K", 0, "FLASHRING_CUDA_SHARED_MEMORY = '99 K' must be a number of kilobytes such as 99K"},
        {"99KB", 0, "FLASHRING_CUDA_SHARED_MEMORY = '99KB' must be a number of kilobytes such as 99K"},
        {"99999999999999999999K", 0,
         "FLASHRING_CUDA_SHARED_MEMORY = '99999999999999999999K' must be a number of kilobytes such as 99K"},
    };
    long cases = 0;
    for (const auto& c : caps) {
        c.text ? setenv("FLASHRING_CUDA_SHARED_MEMORY", c.text, 1) : unsetenv("FLASHRING_CUDA_SHARED_MEMORY");
        const flashring::SharedMemoryCap cap;
        CHECK(cap.valid() == !c.cause, "cap '%s' is %svalid", c.text ? c.text : "none", cap.valid() ? "" : "not ");
        CHECK(!cap.valid() || cap.bytes() == c.bytes, "cap '%s' is %d bytes", c.text ? c.text : "none", cap.bytes());
        if (c.cause) {
            char cause[200];
            cap.explain(cause, sizeof cause);
            CHECK(std::string(cause) == c.cause, "cap '%s' is refused by: %s", c.text, cause);
        }
        ++cases;
    }
    return cases;
}

}  // namespace

int main() {
    long cases = checkDevices() + checkCap();
    for (const HeadDims dims : flashring::kHeadDims) {
        for (const SharedMemory memory : flashring::kSharedMemories) {
            checkForward(dims, memory, flashring::forwardTile(dims, memory));
            checkBackward(dims, memory);
            cases += 2;
        }
    }
    checkForward(flashring::kWideHeadDims, SharedMemory::KB99, flashring::kWideForwardTile);
    return finish("tiles", cases + 1);
}
