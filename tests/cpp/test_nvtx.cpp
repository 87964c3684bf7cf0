// Every entry and every kernel is a range for NVIDIA's profilers, no more and no fewer, refused calls included.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "flashring.h"

namespace {

constexpr int kForward = 5, kBackward = 3, kRefused = 2;

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "%s: %s\n", what, flashring_last_error());
        std::exit(1);
    }
}

}  // namespace

int main() {
    setenv("NVTX_INJECTION64_PATH", NVTX_COUNTER, 1);

    float q[8] = {1, 2, 3, 4, 5, 6, 7, 8}, k[8] = {}, v[8] = {}, out[8], dout[8] = {}, dq[8], dk[8], dv[8], lse[1],
          delta[1];
    alignas(64) char workspace[1 << 16];
    const flashring_range range{0, 1, 1};
    flashring_step step{};
    step.size = sizeof step;
    step.device = FLASHRING_HOST;
    step.dtype = FLASHRING_FLOAT32;
    step.kernel = FLASHRING_KERNEL_REFERENCE;
    step.batch = step.q_len = step.kv_len = step.q_heads = step.kv_heads = 1;
    step.head_dim = step.value_dim = 8;
    step.softmax_scale = 1;
    step.q_positions = step.kv_positions = {&range, 1};
    step.mask.left = step.mask.right = -1;
    step.workspace = workspace;
    step.workspace_bytes = sizeof workspace;
    step.q = {q, 8, 8, 8};
    step.k = {k, 8, 8, 8};
    step.v = {v, 8, 8, 8};
    step.out = {out, 8, 8, 8};
    step.dout = {dout, 8, 8, 8};
    step.dq = {dq, 8, 8, 8};
    step.dk = {dk, 8, 8, 8};
    step.dv = {dv, 8, 8, 8};
    step.lse = {lse, 1, 1, 1};
    step.delta = {delta, 1, 1, 1};
    step.flags = FLASHRING_FINISH;
    for (int i = 0; i < kForward; ++i) {
        flashring_range_begin(FLASHRING_FORWARD, i);
        require(flashring_forward_step(&step) == FLASHRING_OK, "forward");
        flashring_range_end();
    }
    step.flags = 0;
    require(flashring_delta(&step) == FLASHRING_OK, "delta");
    for (int i = 0; i < kBackward; ++i) {
        flashring_range_begin(FLASHRING_BACKWARD, 100);
        require(flashring_backward_step(&step) == FLASHRING_OK, "backward");
        flashring_range_end();
    }
    flashring_combine_args copy{};
    copy.size = sizeof copy;
    copy.device = FLASHRING_HOST;
    copy.dst_dtype = copy.a_dtype = copy.b_dtype = FLASHRING_FLOAT32;
    copy.batch = copy.length = copy.heads = 1;
    copy.dim = 8;
    copy.dst = {dq, 8, 8, 8};
    copy.a = {q, 8, 8, 8};
    require(flashring_combine(&copy) == FLASHRING_OK, "combine");
    step.softmax_scale = -1;
    for (int i = 0; i < kRefused; ++i) {
        require(flashring_forward_step(&step) == FLASHRING_INVALID_ARGUMENT, "a scale below zero");
    }

    void* const tool = dlopen(NVTX_COUNTER, RTLD_NOW | RTLD_NOLOAD);
    require(tool, "the library loads the tool");
    int seen[9];
    reinterpret_cast<void (*)(int*)>(dlsym(tool, "counts"))(seen);
    const int expected[9] = {kForward, kBackward, kForward + kRefused, kBackward, 1, 1, kForward + kBackward,
                             0 + 1 + 2 + 3 + 4 + kBackward * 100, 3 * (kForward + kBackward) + kRefused + 2};
    int wrong = 0;
    for (int i = 0; i < 9; ++i) {
        if (seen[i] != expected[i]) {
            std::fprintf(stderr, "count %d is %d, expected %d\n", i, seen[i], expected[i]);
            wrong = 1;
        }
    }
    return wrong;
}
