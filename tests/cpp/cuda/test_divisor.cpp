// Divisor against the processor's own division: small divisors, powers of 2 and their neighbours, numbers around whole
// multiples.
#include <climits>
#include <cstdint>

#include "buffers.h"
#include "common/divisor.h"

namespace {

long checkDivisor(int64_t divisor) {
    if (divisor < 1 || divisor > INT_MAX) {
        return 0;
    }
    const flashring::Divisor by(static_cast<int>(divisor));
    const int64_t last = INT_MAX / divisor * divisor, middle = INT_MAX / 2 / divisor * divisor;
    for (const int64_t border : {int64_t{0}, divisor, 2 * divisor, middle, last, int64_t{INT_MAX}}) {
        for (int64_t number = border - 2; number <= border + 2; ++number) {
            if (number >= 0 && number <= INT_MAX) {
                const int got = by.quotient(static_cast<int>(number));
                CHECK(got == number / divisor, "%lld / %lld: %d", static_cast<long long>(number),
                      static_cast<long long>(divisor), got);
            }
        }
    }
    return 1;
}

}  // namespace

int main() {
    long cases = 0;
    for (int64_t divisor = 1; divisor <= 20000; ++divisor) {
        cases += checkDivisor(divisor) + checkDivisor(INT_MAX - divisor);
    }
    for (int bit = 0; bit <= 31; ++bit) {
        for (int64_t offset = -3; offset <= 3; ++offset) {
            cases += checkDivisor((int64_t{1} << bit) + offset);
        }
    }
    return finish("divisor", cases);
}
