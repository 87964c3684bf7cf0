// FLASHRING_CUDA_SHARED_MEMORY=99K: devices count as if a block got no more shared memory than that, so that any GPU
// runs the tiles of a lesser one.
#ifndef FLASHRING_CUDA_COMMON_SHARED_MEMORY_CAP_H
#define FLASHRING_CUDA_COMMON_SHARED_MEMORY_CAP_H

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/shared_memory.h"

namespace flashring {

class SharedMemoryCap {
public:
    // Reads the environment.
    SharedMemoryCap() : text_(std::getenv(kVariable)) {
        if (text_) {
            char* end = nullptr;
            const long kilobytes = *text_ >= '0' && *text_ <= '9' ? std::strtol(text_, &end, 10) : -1;
            wellFormed_ = kilobytes >= 0 && kilobytes <= INT_MAX >> 10 && std::strcmp(end, "K") == 0;
            bytes_ = wellFormed_ ? static_cast<int>(kilobytes) << 10 : 0;
        }
    }

    // Bytes a block; INT_MAX where there is no cap.
    int bytes() const { return bytes_; }

    bool valid() const { return bytes_ >= static_cast<int>(kSharedMemories[0]); }

    // Why it is not valid.
    void explain(char* cause, size_t size) const {
        const char* const rule = wellFormed_ ? "%.40s must be at least %dK, which kernels need"
                                             : "'%.40s' must be a number of kilobytes such as %dK";
        const int prefix = std::snprintf(cause, size, "%s = ", kVariable);
        std::snprintf(cause + prefix, size - static_cast<size_t>(prefix), rule, text_,
                      static_cast<int>(kSharedMemories[0]) >> 10);
    }

private:
    static constexpr char kVariable[] = "FLASHRING_CUDA_SHARED_MEMORY";
    const char* text_;
    bool wellFormed_ = true;
    int bytes_ = INT_MAX;
};

}  // namespace flashring

#endif
