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
    const auto counts = [&](int64_t stride) { return stride >= 0 && stride < kMostStride / size; };
    return c.extents.dim * size % kLine == 0 && rowsAligned(c.tensor, c.extents, size, kLine) &&
           (!c.tensor.data || Axes(c.tensor, c.extents).all(counts));
}

// Whether places share rows, as heads do that another library has expanded: of that the rules say nothing.
inline bool sharesRows(const Copied& c) {
    return c.tensor.data && !Axes(c.tensor, c.extents).all([](int64_t stride) { return stride != 0; });
}

// Calls each(Copied) for the operands that a step copies, until one call returns false; whether none did. The state
// that forward resumes counts where `copiesState`.
template <class Each>
bool forEachCopied(const flashring_step& s, flashring_direction direction, bool copiesState, const Each& each) {
    const Extents q = queries(s, s.head_dim), out = queries(s, s.value_dim);
    const Extents k = keys(s, s.head_dim), v = keys(s, s.value_dim);
    const auto input = [&](const char* name, const flashring_tensor& tensor, const Extents& extents) {
        return each(Copied{name, tensor, extents, s.dtype});
    };
    const auto wide = [&](const char* name, const flashring_tensor& tensor, const Extents& extents) {
        return each(Copied{name, tensor, extents, FLASHRING_FLOAT32});
    };
    const bool inputs = input("q", s.q, q) && input("k", s.k, k) && input("v", s.v, v);
    if (direction == FLASHRING_FORWARD) {
        return inputs && (!(s.flags & FLASHRING_RESUME) || !copiesState || wide("acc", s.acc, out));
    }
    return inputs && input("dout", s.dout, out) && wide("dq", s.dq, q) && wide("dk", s.dk, k) && wide("dv", s.dv, v);
}

}  // namespace flashring

#endif
