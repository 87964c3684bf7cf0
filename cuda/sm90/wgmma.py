#!/usr/bin/env python3
"""Prints wgmma.cuh: wgmma.mma_async (PTX ISA 9.7.15) for every accumulator width that the Hopper kernels use.

    cuda/sm90/wgmma.py > cuda/sm90/wgmma.cuh

An accumulator operand has to be written out register by register, which no template can do.
"""
WIDTHS = (64, 80, 96, 128, 192, 256)

print("""// Made by wgmma.py. Do not edit.
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
""")
for n in WIDTHS:
    count = n // 2
    names = ["%" + str(i) for i in range(count)]
    outs = [f"c(d[{i}])" for i in range(count)]
    print(f"#define FLASHRING_WGMMA_D{n} \\")
    lines = [", ".join(names[i:i + 18]) for i in range(0, count, 18)]
    lines = ["{" + lines[0], *lines[1:]]
    print(", \" \\\n".join('    "' + line for line in lines) + '}"')
    print(f"#define FLASHRING_WGMMA_OUT{n}(c) \\")
    lines = [", ".join(outs[i:i + 10]) for i in range(0, count, 10)]
    print(", \\\n".join("    " + line for line in lines))

    def asm(types, operands, inputs, constraint="+f"):
        return (f'            asm volatile("wgmma.mma_async.sync.aligned.m64n{n}k16.f32.{types}.{types} "\n'
                f'                         FLASHRING_WGMMA_D{n} "{operands}"\n'
                f"                         : FLASHRING_WGMMA_OUT{n}(\"{constraint}\")\n"
                f"                         : {inputs});")

    ss = f", %{count}, %{count + 1}, %{count + 2}, 1, 1, %{count + 3}, %{count + 3};"
    fresh = f", %{count}, %{count + 1}, 0, 1, 1, %{count + 2}, %{count + 2};"
    rs = f", {{%{count}, %{count + 1}, %{count + 2}, %{count + 3}}}, %{count + 4}, %{count + 5}, 1, 1, %{count + 6};"
    fresh_in = '"l"(a), "l"(b), "n"(kAcross)'
    ss_in = '"l"(a), "l"(b), "n"(kAdd), "n"(kAcross)'
    rs_in = '"r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAdd), "n"(kTransposed)'
    print(f"""
template <>
struct Wgmma<{n}> {{
    // A and B in shared memory, both contiguous along the summed index, or (kAcross) both across it.
    template <class Element, int kAdd, int kAcross = 0>
    static __device__ __forceinline__ void shared(float (&d)[{count}], uint64_t a, uint64_t b) {{
        if constexpr (__is_same(Element, __nv_bfloat16)) {{
{asm("bf16", ss, ss_in)}
        }} else {{
{asm("f16", ss, ss_in)}
        }}
    }}

    // The same, overwriting: registers that the accumulator had hold nothing until then.
    template <class Element, int kAcross>
    static __device__ __forceinline__ void fresh(float (&d)[{count}], uint64_t a, uint64_t b) {{
        if constexpr (__is_same(Element, __nv_bfloat16)) {{
{asm("bf16", fresh, fresh_in, "=f")}
        }} else {{
{asm("f16", fresh, fresh_in, "=f")}
        }}
    }}

    // A in registers; B contiguous along the summed index, or (kTransposed) across it.
    template <class Element, int kAdd, int kTransposed>
    static __device__ __forceinline__ void registers(float (&d)[{count}], const uint32_t (&a)[4], uint64_t b) {{
        if constexpr (__is_same(Element, __nv_bfloat16)) {{
{asm("bf16", rs, rs_in)}
        }} else {{
{asm("f16", rs, rs_in)}
        }}
    }}
}};
#undef FLASHRING_WGMMA_D{n}
#undef FLASHRING_WGMMA_OUT{n}
""")
print("}  // namespace flashring\n\n#endif")
