// Host memory for scratch and for callers.
#ifndef FLASHRING_MEMORY_H
#define FLASHRING_MEMORY_H

#include <stdint.h>

namespace flashring {

// At least 64-byte aligned, not cleared, freed with std::free; null when there is none. From 2 MiB up in huge pages
// where the system has them: rows of a head lie far apart, and each would need a page table entry of its own.
void* allocate(int64_t bytes);

}  // namespace flashring

#endif
