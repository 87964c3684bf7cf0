#include "intervals.h"

#include <algorithm>
#include <limits>

namespace flashring {
namespace {

// Counts the positions below a bound, for bounds that never decrease.
class Counter {
public:
    explicit Counter(const flashring_positions& positions) : range_(positions.ranges), end_(range_ + positions.count) {}

    int64_t below(int64_t bound) {
        for (; range_ != end_; ++range_) {
            const int64_t inside = within(*range_, bound);
            if (inside < range_->length) {
                return passed_ + inside;
            }
            passed_ += inside;
        }
        return passed_;
    }

private:
    static int64_t within(const flashring_range& range, int64_t bound) {
        if (range.length == 0 || bound <= range.start) {  // the start and stride of an empty range mean nothing
            return 0;
        }
        return std::min(range.length, (bound - range.start - 1) / range.stride + 1);
    }

    const flashring_range* range_;
    const flashring_range* end_;
    int64_t passed_ = 0;
};

struct Document {
    int64_t start, end, prefix;
};

// The document of each query position, for positions that never decrease; past the last one an empty document.
class Documents {
public:
    explicit Documents(const flashring_mask& mask) : mask_(mask) {}

    Document of(int64_t position) {
        const int64_t* prefix = mask_.prefix_lengths;
        if (!mask_.cu_seqlens) {
            return {0, std::numeric_limits<int64_t>::max(), prefix ? prefix[0] : 0};
        }
        while (index_ < mask_.documents && mask_.cu_seqlens[index_ + 1] <= position) {
            ++index_;
        }
        const int64_t start = mask_.cu_seqlens[index_];
        if (index_ == mask_.documents) {
            return {start, start, 0};
        }
        return {start, mask_.cu_seqlens[index_ + 1], prefix ? prefix[index_] : 0};
    }

private:
    const flashring_mask& mask_;
    int64_t index_ = 0;
};

}  // namespace

void visibleKeys(const flashring_step& step, int64_t* lo, int64_t* hi) {
    const flashring_mask& mask = step.mask;
    Documents documents(mask);
    Counter before(step.kv_positions), upTo(step.kv_positions);
    int64_t i = 0;
    for (int64_t r = 0; r < step.q_positions.count; ++r) {
        const flashring_range& range = step.q_positions.ranges[r];
        for (int64_t n = 0; n < range.length; ++n, ++i) {
            const int64_t q = range.start + n * range.stride;
            const Document document = documents.of(q);
            const bool inside = q < document.end;
            int64_t first = document.start, last = document.end;
            if (inside && mask.left >= 0 && mask.left < q - document.start) {
                first = q - mask.left;
            }
            if (inside && mask.right >= 0 && mask.right < document.end - q - 1) {
                last = q + mask.right + 1;
            }
            const int64_t length = document.end - document.start;
            last = std::max(last, document.start + std::min(document.prefix, length));
            lo[i] = before.below(first);
            hi[i] = upTo.below(last);
        }
    }
}

}  // namespace flashring
