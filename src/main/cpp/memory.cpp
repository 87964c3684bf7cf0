#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>

namespace flashring {

void* allocate(int64_t bytes) {
    constexpr int64_t most = INT64_C(1) << 56, line = 64, hugePage = 2 << 20;
    if (bytes < 0 || bytes > most) {
        return nullptr;
    }
    const int64_t alignment = bytes >= hugePage ? hugePage : line;
    const auto size = static_cast<size_t>(bytes == 0 ? line : (bytes + line - 1) / line * line);
    void* const memory = std::aligned_alloc(static_cast<size_t>(alignment), size);
    if (memory && bytes >= hugePage) {
        madvise(memory, size, MADV_HUGEPAGE);  // a wish: smaller pages serve as well
    }
    return memory;
}

}  // namespace flashring
