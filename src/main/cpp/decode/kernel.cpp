// The host's kernel for few queries against many keys. What sets its pace is reading them once, for which AVX2 is
// enough.
namespace flashring {
namespace {
constexpr int kVectorBytes = 32;
constexpr int kBlockRows = 6, kBlockVectors = 2;  // as in simd/avx2.cpp
}  // namespace
}  // namespace flashring

#include "decode/pieces.h"
#include "threads.h"

namespace flashring {
namespace {

bool available() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

template <class Element, class Cached>
void forwardOf(const Problem& problem) {
    using T = typename Accumulator<Element>::type;
    const flashring_step& step = problem.step;
    const States<T> states{step};
    // Pieces of the key heads side by side, as their rows lie.
    parallelFor(step.batch * states.pieces * step.kv_heads, [&](int64_t index, char* scratch) {
        const int64_t g = index % step.kv_heads, piece = index / step.kv_heads % states.pieces,
                      b = index / step.kv_heads / states.pieces;
        const Span span(problem, b);
        if (span.meets(piece)) {
            Piece<T, Element, Cached>(problem, states, b, g, piece, scratch)
                .run(most(span.first, piece * kPiece), least(span.last, (piece + 1) * kPiece));
        }
    });
    parallelFor(step.batch * step.kv_heads * states.rows, [&](int64_t index, char* scratch) {
        const int64_t r = index % states.rows, g = index / states.rows % step.kv_heads,
                      b = index / states.rows / step.kv_heads;
        mergePieces<T, Element>(problem, states, Span(problem, b), b, g, r, reinterpret_cast<T*>(scratch));
    });
}

void forward(const Problem& problem) {
    withElement(problem.step.dtype, [&](auto element) {
        using Element = decltype(element);
        if constexpr (sizeof element == 2) {
            if (problem.step.kv_dtype != FLASHRING_KV_OF_STEP) {
                return forwardOf<Element, float8>(problem);
            }
        }
        forwardOf<Element, Element>(problem);
    });
}

int64_t workspaceBytes(const flashring_step& step, flashring_direction) {
    return accumulatorType(step.dtype) == FLASHRING_FLOAT64 ? States<double>{step}.bytes()
                                                            : States<float>{step}.bytes();
}

const char* unmet(const flashring_step& step, flashring_direction) {
    return step.q_len * (step.q_heads / step.kv_heads) > kMaxDecodeRows
               ? "it takes up to 64 rows: q_len * q_heads / kv_heads"
               : nullptr;
}

}  // namespace

const Kernel kDecode = Kernel{FLASHRING_KERNEL_DECODE,
                              "decode",
                              "AVX2, FMA and F16C",
                              available,
                              forward,
                              nullptr,
                              workspaceBytes,
                              false,
                              nullptr,
                              unmet,
                              true}
                           .serving(FLASHRING_SOFTCAP | FLASHRING_SINKS)
                           .forAnyDims();

}  // namespace flashring
