// Division of indices by a number that many threads share.
#ifndef FLASHRING_CUDA_COMMON_DIVISOR_H
#define FLASHRING_CUDA_COMMON_DIVISOR_H

#include <cstdint>

namespace flashring {

// Divides by multiplication (Granlund and Montgomery 1994). With 2^s the first power of 2 not below the divisor, the
// multiplier 2^(31 + s) / divisor, rounded up, is too large by less than 2^s / divisor: too little to reach the next
// quotient of a number below 2^31.
class Divisor {
public:
    // Of at least 1.
    explicit constexpr Divisor(int divisor) {
        while (int64_t{1} << (shift_ - 31) < divisor) {
            ++shift_;
        }
        const uint64_t wide = static_cast<uint64_t>(divisor);
        multiplier_ = static_cast<uint32_t>(((uint64_t{1} << shift_) + wide - 1) / wide);
    }

    // The number, at least 0, over the divisor, rounded down.
    constexpr int quotient(int number) const {
        return static_cast<int>(static_cast<uint64_t>(number) * multiplier_ >> shift_);
    }

private:
    uint32_t multiplier_ = 0;
    int shift_ = 31;
};

}  // namespace flashring

#endif
