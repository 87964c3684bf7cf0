// Which tensors the copy engine reaches. Plain C++, which tests compile without CUDA.
#ifndef FLASHRING_CUDA_SM90_REACH_H
#define FLASHRING_CUDA_SM90_REACH_H

#include "common/rows.h"
#include "elements.h"

namespace flashring {

// An operand that the copy engine reads or writes.
struct Copied {
    const char* name;
    const flashring_tensor& tensor;
    Extents extents;
    int32_t dtype;
};

// What cuTensorMapEncodeTiled() asks of a tensor. One without an address counts by its dim alone.
inline bool reached(const Copied& c) {
    constexpr int64_t kLine = 16, kMostStride = INT64_C(1) << 40;
    const int64_t size = elementBytes(c.dtype);
    return c.extents.dim * size % kLine == 0 && rowsAligned(c.tensor, c.extents, size, kLine) &&
           (!c.tensor.data || Axes(c.tensor, c.extents).all([&](int64_t stride) { return stride >= 0 && stride < kMostStride / size; }));
}

// Whether places share rows, as heads do that another library has expanded: of that the rules say nothing.
inline bool sharesRows(const Copied& c) {
    return c.tensor.data && !Axes(c.tensor, c.extents).all([](int64_t stride) { return stride != 0; });
}

// Calls each(Copied) for the operands that a step copies, until one call returns false; whether none did. The state that forward
// resumes counts where `copiesState`.
template <class Each>
bool forEachCopied(const flashring_step& s, flashring_direction direction, bool copiesState, const Each& each) {
    const Extents q = queries(s, s.head_dim), out = queries(s, s.value_dim), k = keys(s, s.head_dim), v = keys(s, s.value_dim);
    const bool inputs = each(Copied{"q", s.q, q, s.dtype}) && each(Copied{"k", s.k, k, s.dtype}) && each(Copied{"v", s.v, v, s.dtype});
    if (direction == FLASHRING_FORWARD) {
        return inputs && (!(s.flags & FLASHRING_RESUME) || !copiesState || each(Copied{"acc", s.acc, out, FLASHRING_FLOAT32}));
    }
    return inputs && each(Copied{"dout", s.dout, out, s.dtype}) && each(Copied{"dq", s.dq, q, FLASHRING_FLOAT32}) &&
           each(Copied{"dk", s.dk, k, FLASHRING_FLOAT32}) && each(Copied{"dv", s.dv, v, FLASHRING_FLOAT32});
}

}  // namespace flashring

#endif
