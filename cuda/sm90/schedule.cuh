// Which tile of queries a block works on next, and which keys that tile sees.
#ifndef FLASHRING_CUDA_SM90_SCHEDULE_CUH
#define FLASHRING_CUDA_SM90_SCHEDULE_CUH

#include "sm90/arguments.h"

namespace flashring {

// The tile of queries and the head, counted over the batch, at a place in the order.
__device__ inline void locate(const TileOrder& order, int index, int& tile, int& head) {
    const int perGroup = order.tiles * order.headsPerGroup, group = min(index / perGroup, order.groups - 1),
              rest = index - group * perGroup;
    const int inGroup = group + 1 == order.groups ? order.heads - group * order.headsPerGroup : order.headsPerGroup;
    tile = order.sorted ? order.sorted[rest / inGroup] : order.tiles - 1 - rest / inGroup;
    head = group * order.headsPerGroup + rest % inGroup;
}

// Where one consumer begins a tile: its first block of keys, the one after, the end of the keys that its queries see,
// and how many blocks it skips first.
struct TileStart {
    int row, next, end, passed;
};

// What the consumers know of a tile, in shared memory.
template <int kQueries>
struct TileSlot {
    TileStart starts[kQueries / 64];
    int first, head, batch;  // its first query; head < 0: there are no more tiles
    KeySpan span;            // never empty: a tile that sees nothing walks over one block of keys, all masked
    int lo[kQueries], hi[kQueries];
};

// A tile on its way from global memory to a slot, held by one warp.
template <int kQueries>
class TileFetch {
public:
    __device__ TileFetch(const Arguments& a, const TileOrder& order, const KeySpan* spans, int index) {
        const int lane = threadIdx.x % 32;
        if (index >= order.count()) {
            head_ = -1;
            return;
        }
        int tile, head;
        locate(order, index, tile, head);
        const int last = static_cast<int>(a.step.q_len) - 1, heads = static_cast<int>(a.step.q_heads);
        first_ = static_cast<int>(firstQuery(tile, order.tiles, kQueries, a.step.q_len));
        head_ = head % heads;
        batch_ = head / heads;
        span_ = spans[tile];
#pragma unroll
        for (int i = 0; i < kQueries / 32; ++i) {
            // Rows past the end repeat the last query; a consumer without any query sees nothing.
            const int row = i * 32 + lane, query = min(first_ + row, last);
            const bool used = query >= 0 && first_ + row / 64 * 64 <= last;
            lo_[i] = used ? a.lo[query] : 0;
            hi_[i] = used ? a.hi[query] : 0;
        }
    }

    __device__ bool more() const { return head_ >= 0; }
    __device__ int first() const { return first_; }
    __device__ int head() const { return head_; }
    __device__ int batch() const { return batch_; }

    // Whether the tile sees nothing and a step with these flags leaves its state as it is.
    __device__ bool unchanged(int flags) const {
        return more() && span_.begin >= span_.end &&
               (flags & (FLASHRING_RESUME | FLASHRING_FINISH)) == FLASHRING_RESUME;
    }

    // Of the tile's blocks of `keys` keys each consumer works on those from the first to the last that its own queries
    // see. It skips the others, up to mostBefore and mostAfter of them. A consumer that sees nothing works on the first
    // block.
    __device__ void store(TileSlot<kQueries>& slot, int keys, int mostBefore, int mostAfter) const {
        const int lane = threadIdx.x % 32;
        if (lane == 0) {
            slot.first = first_;
            slot.head = head_;
            slot.batch = batch_;
            slot.span = span_.begin < span_.end ? span_ : KeySpan{0, 1, 1, 1};
        }
#pragma unroll
        for (int i = 0; i < kQueries / 32; ++i) {
            slot.lo[i * 32 + lane] = lo_[i];
            slot.hi[i * 32 + lane] = hi_[i];
        }
        __syncwarp();
        if (lane < kQueries / 64) {
            const KeySpan span = slot.span;
            const int lo = slot.lo[lane * 64], hi = slot.hi[lane * 64 + 63];
            TileStart start{span.begin, span.next(span.begin, keys),
                            max(lo < hi ? hi : span.begin + 1, span.end - mostAfter * keys), 0};
            // Never skips the last block: queries behind a gap may have lo < hi and see nothing.
            while (start.passed < mostBefore && start.row + keys <= lo && lo < hi && start.next < span.end) {
                start.row = start.next;
                start.next = span.next(start.row, keys);
                ++start.passed;
            }
            slot.starts[lane] = start;
        }
    }

private:
    int first_ = 0, head_, batch_ = 0;
    KeySpan span_{};
    int lo_[kQueries / 32]{}, hi_[kQueries / 32]{};
};

}  // namespace flashring

#endif
