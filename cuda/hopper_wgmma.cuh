// Made by hopper_wgmma.py. Do not edit.
//
// Wgmma<n>: products of one warpgroup, accumulator [64, n] += A [64, 16] B [16, n], asynchronous. Lane l of warp w holds
// d[4 j + 2 h + e] at row 16 w + 8 h + l / 4 and column 8 j + 2 (l % 4) + e. kAdd 0 overwrites the accumulator.
#ifndef FLASHRING_CUDA_HOPPER_WGMMA_CUH
#define FLASHRING_CUDA_HOPPER_WGMMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace flashring {

template <int kN>
struct Wgmma;

#define FLASHRING_WGMMA_D64 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31}"
#define FLASHRING_WGMMA_OUT64 \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
    "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
    "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
    "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])

template <>
struct Wgmma<64> {
    // A and B in shared memory, both contiguous along the summed index.
    template <class Element, int kAdd>
    static __device__ __forceinline__ void shared(float (&d)[32], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " FLASHRING_WGMMA_D64 ", %32, %33, %34, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT64
                         : "l"(a), "l"(b), "n"(kAdd));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " FLASHRING_WGMMA_D64 ", %32, %33, %34, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT64
                         : "l"(a), "l"(b), "n"(kAdd));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " FLASHRING_WGMMA_D64 ", {%32, %33, %34, %35}, %36, %37, 1, 1, %38;"
                         : FLASHRING_WGMMA_OUT64
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 " FLASHRING_WGMMA_D64 ", {%32, %33, %34, %35}, %36, %37, 1, 1, %38;"
                         : FLASHRING_WGMMA_OUT64
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D64
#undef FLASHRING_WGMMA_OUT64

#define FLASHRING_WGMMA_D80 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39}"
#define FLASHRING_WGMMA_OUT80 \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
    "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
    "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
    "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39])

template <>
struct Wgmma<80> {
    // A and B in shared memory, both contiguous along the summed index.
    template <class Element, int kAdd>
    static __device__ __forceinline__ void shared(float (&d)[40], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 " FLASHRING_WGMMA_D80 ", %40, %41, %42, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT80
                         : "l"(a), "l"(b), "n"(kAdd));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.f16.f16 " FLASHRING_WGMMA_D80 ", %40, %41, %42, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT80
                         : "l"(a), "l"(b), "n"(kAdd));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[40], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 " FLASHRING_WGMMA_D80 ", {%40, %41, %42, %43}, %44, %45, 1, 1, %46;"
                         : FLASHRING_WGMMA_OUT80
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n80k16.f32.f16.f16 " FLASHRING_WGMMA_D80 ", {%40, %41, %42, %43}, %44, %45, 1, 1, %46;"
                         : FLASHRING_WGMMA_OUT80
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D80
#undef FLASHRING_WGMMA_OUT80

#define FLASHRING_WGMMA_D96 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47}"
#define FLASHRING_WGMMA_OUT96 \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
    "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
    "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
    "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
    "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])

template <>
struct Wgmma<96> {
    // A and B in shared memory, both contiguous along the summed index.
    template <class Element, int kAdd>
    static __device__ __forceinline__ void shared(float (&d)[48], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 " FLASHRING_WGMMA_D96 ", %48, %49, %50, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT96
                         : "l"(a), "l"(b), "n"(kAdd));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 " FLASHRING_WGMMA_D96 ", %48, %49, %50, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT96
                         : "l"(a), "l"(b), "n"(kAdd));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[48], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 " FLASHRING_WGMMA_D96 ", {%48, %49, %50, %51}, %52, %53, 1, 1, %54;"
                         : FLASHRING_WGMMA_OUT96
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 " FLASHRING_WGMMA_D96 ", {%48, %49, %50, %51}, %52, %53, 1, 1, %54;"
                         : FLASHRING_WGMMA_OUT96
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D96
#undef FLASHRING_WGMMA_OUT96

#define FLASHRING_WGMMA_D128 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define FLASHRING_WGMMA_OUT128 \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
    "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
    "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
    "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
    "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
    "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
    "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])

template <>
struct Wgmma<128> {
    // A and B in shared memory, both contiguous along the summed index.
    template <class Element, int kAdd>
    static __device__ __forceinline__ void shared(float (&d)[64], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " FLASHRING_WGMMA_D128 ", %64, %65, %66, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT128
                         : "l"(a), "l"(b), "n"(kAdd));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " FLASHRING_WGMMA_D128 ", %64, %65, %66, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT128
                         : "l"(a), "l"(b), "n"(kAdd));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " FLASHRING_WGMMA_D128 ", {%64, %65, %66, %67}, %68, %69, 1, 1, %70;"
                         : FLASHRING_WGMMA_OUT128
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " FLASHRING_WGMMA_D128 ", {%64, %65, %66, %67}, %68, %69, 1, 1, %70;"
                         : FLASHRING_WGMMA_OUT128
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D128
#undef FLASHRING_WGMMA_OUT128

#define FLASHRING_WGMMA_D192 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, " \
    "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}"
#define FLASHRING_WGMMA_OUT192 \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
    "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
    "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
    "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
    "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
    "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
    "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]), \
    "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), \
    "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), \
    "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), \
    "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])

template <>
struct Wgmma<192> {
    // A and B in shared memory, both contiguous along the summed index.
    template <class Element, int kAdd>
    static __device__ __forceinline__ void shared(float (&d)[96], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 " FLASHRING_WGMMA_D192 ", %96, %97, %98, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT192
                         : "l"(a), "l"(b), "n"(kAdd));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 " FLASHRING_WGMMA_D192 ", %96, %97, %98, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT192
                         : "l"(a), "l"(b), "n"(kAdd));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[96], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 " FLASHRING_WGMMA_D192 ", {%96, %97, %98, %99}, %100, %101, 1, 1, %102;"
                         : FLASHRING_WGMMA_OUT192
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 " FLASHRING_WGMMA_D192 ", {%96, %97, %98, %99}, %100, %101, 1, 1, %102;"
                         : FLASHRING_WGMMA_OUT192
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D192
#undef FLASHRING_WGMMA_OUT192

#define FLASHRING_WGMMA_D256 \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, " \
    "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, " \
    "%120, %121, %122, %123, %124, %125, %126, %127}"
#define FLASHRING_WGMMA_OUT256 \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
    "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
    "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
    "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
    "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
    "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
    "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]), \
    "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), \
    "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), \
    "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), \
    "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), \
    "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), \
    "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]), \
    "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), \
    "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

template <>
struct Wgmma<256> {
    // A and B in shared memory, both contiguous along the summed index.
    template <class Element, int kAdd>
    static __device__ __forceinline__ void shared(float (&d)[128], uint64_t a, uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " FLASHRING_WGMMA_D256 ", %128, %129, %130, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT256
                         : "l"(a), "l"(b), "n"(kAdd));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 " FLASHRING_WGMMA_D256 ", %128, %129, %130, 1, 1, 0, 0;"
                         : FLASHRING_WGMMA_OUT256
                         : "l"(a), "l"(b), "n"(kAdd));
        }
    }

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[128], const uint32_t (&a)[4], uint64_t b) {
        if constexpr (__is_same(Element, __nv_bfloat16)) {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " FLASHRING_WGMMA_D256 ", {%128, %129, %130, %131}, %132, %133, 1, 1, %134;"
                         : FLASHRING_WGMMA_OUT256
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        } else {
            asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 " FLASHRING_WGMMA_D256 ", {%128, %129, %130, %131}, %132, %133, 1, 1, %134;"
                         : FLASHRING_WGMMA_OUT256
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed));
        }
    }
};
#undef FLASHRING_WGMMA_D256
#undef FLASHRING_WGMMA_OUT256

}  // namespace flashring

#endif
