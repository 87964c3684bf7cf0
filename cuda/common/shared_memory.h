// Sets of tiles by the shared memory that a block gets.
#ifndef FLASHRING_CUDA_COMMON_SHARED_MEMORY_H
#define FLASHRING_CUDA_COMMON_SHARED_MEMORY_H

#include <utility>

namespace flashring {

// Shared memory that a block gets at most: on compute capability 8.6, 8.9 and 12.x; on 8.0; on 9.0, 10.x and 11.x.
// There is a set of tiles for each, and a device takes the largest that its own limit allows.
enum class SharedMemory { None = 0, KB99 = 99 << 10, KB163 = 163 << 10, KB227 = 227 << 10 };
constexpr SharedMemory kSharedMemories[] = {SharedMemory::KB99, SharedMemory::KB163, SharedMemory::KB227};

// Whether code for an architecture (80, 86, ...) holds the tiles of a set: the least everywhere, others where devices
// have the memory. Architectures without code of their own have that for 90, as PTX.
constexpr bool compiledFor(int architecture, SharedMemory memory) {
    return memory == SharedMemory::KB99    ? true
           : memory == SharedMemory::KB163 ? architecture == 80
                                           : architecture >= 90 && architecture / 10 != 12;
}

// The set for a device of this compute capability (80, 86, ...) whose blocks get up to `bytes` of shared memory.
constexpr SharedMemory tileSet(int capability, int bytes) {
    SharedMemory largest = SharedMemory::None;
    for (const SharedMemory memory : kSharedMemories) {
        if (capability >= 80 && bytes >= static_cast<int>(memory) && compiledFor(capability, memory)) {
            largest = memory;
        }
    }
    return largest;
}

template <SharedMemory kMemory>
using SharedMemoryIs = std::integral_constant<SharedMemory, kMemory>;

// Calls body with a set of tiles, as a type; with none where there is none.
template <class Body>
void withSharedMemory(SharedMemory memory, Body&& body) {
    switch (memory) {
        case SharedMemory::KB99: return body(SharedMemoryIs<SharedMemory::KB99>{});
        case SharedMemory::KB163: return body(SharedMemoryIs<SharedMemory::KB163>{});
        case SharedMemory::KB227: return body(SharedMemoryIs<SharedMemory::KB227>{});
        case SharedMemory::None: return;
    }
}

}  // namespace flashring

#endif
