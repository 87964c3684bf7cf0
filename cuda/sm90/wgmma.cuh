// Made by wgmma.py. Do not edit.
//
// Wgmma<n>: products of one warpgroup, accumulator [64, n] += A [64, 16] B [16, n], asynchronous. Lane l of warp w has
// d[4 j + 2 h + e] at row 16 w + 8 h + l / 4 and column 8 j + 2 (l % 4) + e. kAdd 0 overwrites the accumulator.
#ifndef FLASHRING_CUDA_SM90_WGMMA_CUH
#define FLASHRING_CUDA_SM90_WGMMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace flashring {

template <int kN>
struct Wgmma;

#define FLASHRING_WGMMA_D64 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define FLASHRING_WGMMA_OUT64(c) \
    c(d[0]), c(d[1]), c(d[2]), c(d[3]), c(d[4]), c(d[5]), c(d[6]), c(d[7]), c(d[8]), c(d[9]), \
    c(d[10]), c(d[11]), c(d[12]), c(d[13]), c(d[14]), c(d[15]), c(d[16]), c(d[17]), c(d[18]), c(d[19]), \
    c(d[20]), c(d[21]), c(d[22]), c(d[23]), c(d[24]), c(d[25]), c(d[26]), c(d[27]), c(d[28]), c(d[29]), \
    c(d[30]), c(d[31])

template <>
struct Wgmma<64> {
    // A and B in shared memory, both contiguous along the summed index, or (kAcross) both across it.
    template <class Element, int kAdd, int kAcross = 0>
    static __device__ __forceinline__ void shared(float (&d)[32], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D64 ", %32, %33, %34, 1, 1, %35, %35;"
                         : FLASHRING_WGMMA_OUT64("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D64 ", %32, %33, %34, 1, 1, %35, %35;"
                         : FLASHRING_WGMMA_OUT64("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        }
    }

    // The same, overwriting: registers that the accumulator had hold nothing until then.
    template <class Element, int kAcross>
    static __device__ __forceinline__ void fresh(float (&d)[32], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D64 ", %32, %33, 0, 1, 1, %34, %34;"
                         : FLASHRING_WGMMA_OUT64("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D64 ", %32, %33, 0, 1, 1, %34, %34;"
                         : FLASHRING_WGMMA_OUT64("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D64 ", {%32, %33, %34, %35}, %36, %37, 1, 1, %38;"
                         : FLASHRING_WGMMA_OUT64("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D64 ", {%32, %33, %34, %35}, %36, %37, 1, 1, %38;"
                         : FLASHRING_WGMMA_OUT64("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D64
#undef FLASHRING_WGMMA_OUT64

#define FLASHRING_WGMMA_D80 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
    "%36, %37, %38, %39}"
#define FLASHRING_WGMMA_OUT80(c) \
    c(d[0]), c(d[1]), c(d[2]), c(d[3]), c(d[4]), c(d[5]), c(d[6]), c(d[7]), c(d[8]), c(d[9]), \
    c(d[10]), c(d[11]), c(d[12]), c(d[13]), c(d[14]), c(d[15]), c(d[16]), c(d[17]), c(d[18]), c(d[19]), \
    c(d[20]), c(d[21]), c(d[22]), c(d[23]), c(d[24]), c(d[25]), c(d[26]), c(d[27]), c(d[28]), c(d[29]), \
    c(d[30]), c(d[31]), c(d[32]), c(d[33]), c(d[34]), c(d[35]), c(d[36]), c(d[37]), c(d[38]), c(d[39])

template <>
struct Wgmma<80> {
    // A and B in shared memory, both contiguous along the summed index, or (kAcross) both across it.
    template <class Element, int kAdd, int kAcross = 0>
    static __device__ __forceinline__ void shared(float (&d)[40], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D80 ", %40, %41, %42, 1, 1, %43, %43;"
                         : FLASHRING_WGMMA_OUT80("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D80 ", %40, %41, %42, 1, 1, %43, %43;"
                         : FLASHRING_WGMMA_OUT80("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        }
    }

    // The same, overwriting: registers that the accumulator had hold nothing until then.
    template <class Element, int kAcross>
    static __device__ __forceinline__ void fresh(float (&d)[40], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D80 ", %40, %41, 0, 1, 1, %42, %42;"
                         : FLASHRING_WGMMA_OUT80("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D80 ", %40, %41, 0, 1, 1, %42, %42;"
                         : FLASHRING_WGMMA_OUT80("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[40], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D80 ", {%40, %41, %42, %43}, %44, %45, 1, 1, %46;"
                         : FLASHRING_WGMMA_OUT80("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D80 ", {%40, %41, %42, %43}, %44, %45, 1, 1, %46;"
                         : FLASHRING_WGMMA_OUT80("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D80
#undef FLASHRING_WGMMA_OUT80

#define FLASHRING_WGMMA_D96 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
    "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47}"
#define FLASHRING_WGMMA_OUT96(c) \
    c(d[0]), c(d[1]), c(d[2]), c(d[3]), c(d[4]), c(d[5]), c(d[6]), c(d[7]), c(d[8]), c(d[9]), \
    c(d[10]), c(d[11]), c(d[12]), c(d[13]), c(d[14]), c(d[15]), c(d[16]), c(d[17]), c(d[18]), c(d[19]), \
    c(d[20]), c(d[21]), c(d[22]), c(d[23]), c(d[24]), c(d[25]), c(d[26]), c(d[27]), c(d[28]), c(d[29]), \
    c(d[30]), c(d[31]), c(d[32]), c(d[33]), c(d[34]), c(d[35]), c(d[36]), c(d[37]), c(d[38]), c(d[39]), \
    c(d[40]), c(d[41]), c(d[42]), c(d[43]), c(d[44]), c(d[45]), c(d[46]), c(d[47])

template <>
struct Wgmma<96> {
    // A and B in shared memory, both contiguous along the summed index, or (kAcross) both across it.
    template <class Element, int kAdd, int kAcross = 0>
    static __device__ __forceinline__ void shared(float (&d)[48], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D96 ", %48, %49, %50, 1, 1, %51, %51;"
                         : FLASHRING_WGMMA_OUT96("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D96 ", %48, %49, %50, 1, 1, %51, %51;"
                         : FLASHRING_WGMMA_OUT96("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        }
    }

    // The same, overwriting: registers that the accumulator had hold nothing until then.
    template <class Element, int kAcross>
    static __device__ __forceinline__ void fresh(float (&d)[48], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D96 ", %48, %49, 0, 1, 1, %50, %50;"
                         : FLASHRING_WGMMA_OUT96("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D96 ", %48, %49, 0, 1, 1, %50, %50;"
                         : FLASHRING_WGMMA_OUT96("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[48], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D96 ", {%48, %49, %50, %51}, %52, %53, 1, 1, %54;"
                         : FLASHRING_WGMMA_OUT96("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D96 ", {%48, %49, %50, %51}, %52, %53, 1, 1, %54;"
                         : FLASHRING_WGMMA_OUT96("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D96
#undef FLASHRING_WGMMA_OUT96

#define FLASHRING_WGMMA_D128 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
    "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
    "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define FLASHRING_WGMMA_OUT128(c) \
    c(d[0]), c(d[1]), c(d[2]), c(d[3]), c(d[4]), c(d[5]), c(d[6]), c(d[7]), c(d[8]), c(d[9]), \
    c(d[10]), c(d[11]), c(d[12]), c(d[13]), c(d[14]), c(d[15]), c(d[16]), c(d[17]), c(d[18]), c(d[19]), \
    c(d[20]), c(d[21]), c(d[22]), c(d[23]), c(d[24]), c(d[25]), c(d[26]), c(d[27]), c(d[28]), c(d[29]), \
    c(d[30]), c(d[31]), c(d[32]), c(d[33]), c(d[34]), c(d[35]), c(d[36]), c(d[37]), c(d[38]), c(d[39]), \
    c(d[40]), c(d[41]), c(d[42]), c(d[43]), c(d[44]), c(d[45]), c(d[46]), c(d[47]), c(d[48]), c(d[49]), \
    c(d[50]), c(d[51]), c(d[52]), c(d[53]), c(d[54]), c(d[55]), c(d[56]), c(d[57]), c(d[58]), c(d[59]), \
    c(d[60]), c(d[61]), c(d[62]), c(d[63])

template <>
struct Wgmma<128> {
    // A and B in shared memory, both contiguous along the summed index, or (kAcross) both across it.
    template <class Element, int kAdd, int kAcross = 0>
    static __device__ __forceinline__ void shared(float (&d)[64], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D128 ", %64, %65, %66, 1, 1, %67, %67;"
                         : FLASHRING_WGMMA_OUT128("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D128 ", %64, %65, %66, 1, 1, %67, %67;"
                         : FLASHRING_WGMMA_OUT128("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        }
    }

    // The same, overwriting: registers that the accumulator had hold nothing until then.
    template <class Element, int kAcross>
    static __device__ __forceinline__ void fresh(float (&d)[64], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D128 ", %64, %65, 0, 1, 1, %66, %66;"
                         : FLASHRING_WGMMA_OUT128("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D128 ", %64, %65, 0, 1, 1, %66, %66;"
                         : FLASHRING_WGMMA_OUT128("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D128 ", {%64, %65, %66, %67}, %68, %69, 1, 1, %70;"
                         : FLASHRING_WGMMA_OUT128("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D128 ", {%64, %65, %66, %67}, %68, %69, 1, 1, %70;"
                         : FLASHRING_WGMMA_OUT128("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D128
#undef FLASHRING_WGMMA_OUT128

#define FLASHRING_WGMMA_D192 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
    "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
    "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, " \
    "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, " \
    "%90, %91, %92, %93, %94, %95}"
#define FLASHRING_WGMMA_OUT192(c) \
    c(d[0]), c(d[1]), c(d[2]), c(d[3]), c(d[4]), c(d[5]), c(d[6]), c(d[7]), c(d[8]), c(d[9]), \
    c(d[10]), c(d[11]), c(d[12]), c(d[13]), c(d[14]), c(d[15]), c(d[16]), c(d[17]), c(d[18]), c(d[19]), \
    c(d[20]), c(d[21]), c(d[22]), c(d[23]), c(d[24]), c(d[25]), c(d[26]), c(d[27]), c(d[28]), c(d[29]), \
    c(d[30]), c(d[31]), c(d[32]), c(d[33]), c(d[34]), c(d[35]), c(d[36]), c(d[37]), c(d[38]), c(d[39]), \
    c(d[40]), c(d[41]), c(d[42]), c(d[43]), c(d[44]), c(d[45]), c(d[46]), c(d[47]), c(d[48]), c(d[49]), \
    c(d[50]), c(d[51]), c(d[52]), c(d[53]), c(d[54]), c(d[55]), c(d[56]), c(d[57]), c(d[58]), c(d[59]), \
    c(d[60]), c(d[61]), c(d[62]), c(d[63]), c(d[64]), c(d[65]), c(d[66]), c(d[67]), c(d[68]), c(d[69]), \
    c(d[70]), c(d[71]), c(d[72]), c(d[73]), c(d[74]), c(d[75]), c(d[76]), c(d[77]), c(d[78]), c(d[79]), \
    c(d[80]), c(d[81]), c(d[82]), c(d[83]), c(d[84]), c(d[85]), c(d[86]), c(d[87]), c(d[88]), c(d[89]), \
    c(d[90]), c(d[91]), c(d[92]), c(d[93]), c(d[94]), c(d[95])

template <>
struct Wgmma<192> {
    // A and B in shared memory, both contiguous along the summed index, or (kAcross) both across it.
    template <class Element, int kAdd, int kAcross = 0>
    static __device__ __forceinline__ void shared(float (&d)[96], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D192 ", %96, %97, %98, 1, 1, %99, %99;"
                         : FLASHRING_WGMMA_OUT192("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D192 ", %96, %97, %98, 1, 1, %99, %99;"
                         : FLASHRING_WGMMA_OUT192("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        }
    }

    // The same, overwriting: registers that the accumulator had hold nothing until then.
    template <class Element, int kAcross>
    static __device__ __forceinline__ void fresh(float (&d)[96], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D192 ", %96, %97, 0, 1, 1, %98, %98;"
                         : FLASHRING_WGMMA_OUT192("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D192 ", %96, %97, 0, 1, 1, %98, %98;"
                         : FLASHRING_WGMMA_OUT192("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[96], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D192 ", {%96, %97, %98, %99}, %100, %101, 1, 1, %102;"
                         : FLASHRING_WGMMA_OUT192("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D192 ", {%96, %97, %98, %99}, %100, %101, 1, 1, %102;"
                         : FLASHRING_WGMMA_OUT192("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D192
#undef FLASHRING_WGMMA_OUT192

#define FLASHRING_WGMMA_D256 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, " \
    "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
    "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, " \
    "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, " \
    "%90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, " \
    "%108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, " \
    "%126, %127}"
#define FLASHRING_WGMMA_OUT256(c) \
    c(d[0]), c(d[1]), c(d[2]), c(d[3]), c(d[4]), c(d[5]), c(d[6]), c(d[7]), c(d[8]), c(d[9]), \
    c(d[10]), c(d[11]), c(d[12]), c(d[13]), c(d[14]), c(d[15]), c(d[16]), c(d[17]), c(d[18]), c(d[19]), \
    c(d[20]), c(d[21]), c(d[22]), c(d[23]), c(d[24]), c(d[25]), c(d[26]), c(d[27]), c(d[28]), c(d[29]), \
    c(d[30]), c(d[31]), c(d[32]), c(d[33]), c(d[34]), c(d[35]), c(d[36]), c(d[37]), c(d[38]), c(d[39]), \
    c(d[40]), c(d[41]), c(d[42]), c(d[43]), c(d[44]), c(d[45]), c(d[46]), c(d[47]), c(d[48]), c(d[49]), \
    c(d[50]), c(d[51]), c(d[52]), c(d[53]), c(d[54]), c(d[55]), c(d[56]), c(d[57]), c(d[58]), c(d[59]), \
    c(d[60]), c(d[61]), c(d[62]), c(d[63]), c(d[64]), c(d[65]), c(d[66]), c(d[67]), c(d[68]), c(d[69]), \
    c(d[70]), c(d[71]), c(d[72]), c(d[73]), c(d[74]), c(d[75]), c(d[76]), c(d[77]), c(d[78]), c(d[79]), \
    c(d[80]), c(d[81]), c(d[82]), c(d[83]), c(d[84]), c(d[85]), c(d[86]), c(d[87]), c(d[88]), c(d[89]), \
    c(d[90]), c(d[91]), c(d[92]), c(d[93]), c(d[94]), c(d[95]), c(d[96]), c(d[97]), c(d[98]), c(d[99]), \
    c(d[100]), c(d[101]), c(d[102]), c(d[103]), c(d[104]), c(d[105]), c(d[106]), c(d[107]), c(d[108]), c(d[109]), \
    c(d[110]), c(d[111]), c(d[112]), c(d[113]), c(d[114]), c(d[115]), c(d[116]), c(d[117]), c(d[118]), c(d[119]), \
    c(d[120]), c(d[121]), c(d[122]), c(d[123]), c(d[124]), c(d[125]), c(d[126]), c(d[127])

template <>
struct Wgmma<256> {
    // A and B in shared memory, both contiguous along the summed index, or (kAcross) both across it.
    template <class Element, int kAdd, int kAcross = 0>
    static __device__ __forceinline__ void shared(float (&d)[128], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D256 ", %128, %129, %130, 1, 1, %131, %131;"
                         : FLASHRING_WGMMA_OUT256("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D256 ", %128, %129, %130, 1, 1, %131, %131;"
                         : FLASHRING_WGMMA_OUT256("+f")
                         : "l"(a), "l"(b), "n"(kAdd), "n"(kAcross));
        }
    }

    // The same, overwriting: registers that the accumulator had hold nothing until then.
    template <class Element, int kAcross>
    static __device__ __forceinline__ void fresh(float (&d)[128], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D256 ", %128, %129, 0, 1, 1, %130, %130;"
                         : FLASHRING_WGMMA_OUT256("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D256 ", %128, %129, 0, 1, 1, %130, %130;"
                         : FLASHRING_WGMMA_OUT256("=f")
                         : "l"(a), "l"(b), "n"(kAcross));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[128], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
                         FLASHRING_WGMMA_D256 ", {%128, %129, %130, %131}, %132, %133, 1, 1, %134;"
                         : FLASHRING_WGMMA_OUT256("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
                         FLASHRING_WGMMA_D256 ", {%128, %129, %130, %131}, %132, %133, 1, 1, %134;"
                         : FLASHRING_WGMMA_OUT256("+f")
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D256
#undef FLASHRING_WGMMA_OUT256

}  // namespace flashring

#endif
