// Tensor maps, made by the driver, which is found at run time.
#include "sm90/maps.h"

#include "common/device.h"

namespace flashring {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode encoder() {
    static const Encode found = [] {
        void* entry = nullptr;
        cudaDriverEntryPointQueryResult result;
        const cudaError_t error =
            cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result);
        return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(entry)
                                                                             : nullptr;
    }();
    return found;
}

CUtensorMapDataType mapType(int32_t dtype) {
    switch (dtype) {
        case FLASHRING_FLOAT32:
            return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
        case FLASHRING_BFLOAT16:
            return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
        case FLASHRING_FLOAT16:
            return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
        default:
            fail(FLASHRING_INTERNAL_ERROR, "dtype = %d came to the copy engine", dtype);
    }
}

}  // namespace

// The rules are looked at first: tools report every call that the driver refuses.
bool encode(CUtensorMap& map, const Copied& c, int rows) {
    if (!reached(c)) {
        return false;
    }
    const Extents& e = c.extents;
    const int64_t size = elementBytes(c.dtype);
    const auto bytes = [&](int64_t extent, int64_t stride) {
        return static_cast<cuuint64_t>((extent > 1 ? stride : e.dim) * size);
    };
    const cuuint64_t extents[] = {static_cast<cuuint64_t>(e.dim), static_cast<cuuint64_t>(e.length),
                                  static_cast<cuuint64_t>(e.heads), static_cast<cuuint64_t>(e.batch)};
    const cuuint64_t strides[] = {bytes(e.length, c.tensor.stride_seq), bytes(e.heads, c.tensor.stride_head),
                                  bytes(e.batch, c.tensor.stride_batch)};
    const cuuint32_t box[] = {static_cast<cuuint32_t>(128 / size), static_cast<cuuint32_t>(rows), 1, 1},
                     steps[] = {1, 1, 1, 1};
    return encoder() &&
           encoder()(&map, mapType(c.dtype), 4, c.tensor.data, extents, strides, box, steps,
                     CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                     CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

void map(CUtensorMap& map, const Copied& c, int rows) {
    if (!encode(map, c, rows)) {
        fail(FLASHRING_DEVICE_ERROR, "cuTensorMapEncodeTiled: the driver refuses %s", c.name);
    }
}

}  // namespace flashring
