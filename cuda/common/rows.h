// Where the rows of a tensor start. Plain C++, which tests compile without CUDA.
#ifndef FLASHRING_CUDA_COMMON_ROWS_H
#define FLASHRING_CUDA_COMMON_ROWS_H

#include <cstdint>

#include "flashring.h"

namespace flashring {

// The elements of a tensor: `dim` of them are a row.
struct Extents {
    int64_t batch, length, heads, dim;
};

struct Axis {
    int64_t length, stride;
};

// The axes that rows are counted along; where one has a single place its stride means nothing.
struct Axes {
    Axis batch, length, heads;

    Axes(const flashring_tensor& tensor, const Extents& e)
        : batch{e.batch, tensor.stride_batch}, length{e.length, tensor.stride_seq}, heads{e.heads, tensor.stride_head} {}

    template <class Holds>
    bool all(const Holds& holds) const {
        return (batch.length <= 1 || holds(batch.stride)) && (length.length <= 1 || holds(length.stride)) &&
               (heads.length <= 1 || holds(heads.stride));
    }
};

// Every row starts on `bytes` bytes and holds a whole number of them. True of a tensor without an address.
inline bool rowsAligned(const flashring_tensor& tensor, const Extents& e, int64_t elementSize, int64_t bytes) {
    const uint64_t size = static_cast<uint64_t>(elementSize), step = static_cast<uint64_t>(bytes);
    const auto whole = [&](int64_t elements) { return static_cast<uint64_t>(elements) * size % step == 0; };
    return !tensor.data || (reinterpret_cast<uintptr_t>(tensor.data) % step == 0 && whole(e.dim) && Axes(tensor, e).all(whole));
}

inline Extents queries(const flashring_step& step, int64_t dim) { return {step.batch, step.q_len, step.q_heads, dim}; }
inline Extents keys(const flashring_step& step, int64_t dim) { return {step.batch, step.kv_len, step.kv_heads, dim}; }

}  // namespace flashring

#endif
