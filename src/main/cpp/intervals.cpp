#include "intervals.h"

#include "visibility.h"

namespace flashring {
namespace {

// Counts the positions below a bound, for bounds that never decrease.
class Counter {
public:
    explicit Counter(const flashring_positions& positions) : range_(positions.ranges), end_(range_ + positions.count) {}

    int64_t below(int64_t bound) {
        for (; range_ != end_; ++range_) {
            const int64_t inside = countBelow(*range_, bound);
            if (inside < range_->length) {
                return passed_ + inside;
            }
            passed_ += inside;
        }
        return passed_;
    }

private:
    const flashring_range* range_;
    const flashring_range* end_;
    int64_t passed_ = 0;
};

}  // namespace

void visibleKeys(const flashring_step& step, int64_t* lo, int64_t* hi) {
    const flashring_mask& mask = step.mask;
    if (hasRows(step)) {
        for (int64_t b = 0; b < step.batch; ++b) {
            const BatchRow row = batchRow(step, b);
            for (int64_t n = 0; n < step.q_len; ++n) {
                const Interval keys = visible(step, row, n);
                *lo++ = keys.first;
                *hi++ = keys.last;
            }
        }
        return;
    }
    Counter before(step.kv_positions), upTo(step.kv_positions);
    int64_t document = 0, i = 0;
    for (int64_t r = 0; r < step.q_positions.count; ++r) {
        const flashring_range& range = step.q_positions.ranges[r];
        for (int64_t n = 0; n < range.length; ++n, ++i) {
            const int64_t q = range.start + n * range.stride;
            while (mask.cu_seqlens && document < mask.documents && mask.cu_seqlens[document + 1] <= q) {
                ++document;
            }
            const Interval keys = visible(mask, documentAt(mask, document), q);
            lo[i] = before.below(keys.first);
            hi[i] = upTo.below(keys.last);
        }
    }
}

void globalPositions(const flashring_positions& positions, int64_t* to) {
    for (int64_t r = 0; r < positions.count; ++r) {
        const flashring_range& range = positions.ranges[r];
        for (int64_t n = 0; n < range.length; ++n) {
            *to++ = range.start + n * range.stride;
        }
    }
}

}  // namespace flashring
