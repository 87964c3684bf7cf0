#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>

namespace flashring {

void* allocate(int64_t bytes) {
    constexpr int64_t most = INT64_C(1) << 56, line = 64, hugePage = 2 << 20;
    if (bytes < 0 || bytes > most) {
        return nullptr;
    }
    void* memory = nullptr;
    if (posix_memalign(&memory, bytes >= hugePage ? hugePage : line, static_cast<size_t>(bytes == 0 ? line : bytes)) !=
        0) {
        return nullptr;
    }
    if (bytes >= hugePage) {
        madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a wish: smaller pages serve as well
    }
    return memory;
}

}  // namespace flashring
