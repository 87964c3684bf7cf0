/* Causal attention from C: two heads of three tokens on the CPU. With queries of zeros every token that is seen weighs
 * the same, so the output of token i is the mean of values 0 to i.
 *   gcc -I src/main/cpp examples/c/one_device.c -L FOLDER -lflashring -Wl,-rpath,FOLDER     FOLDER: where
 *   libflashring.so lies */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "flashring.h"

enum { TOKENS = 3, HEADS = 2, DIM = 4 };

static flashring_tensor tokens_of(float* data, int dim) { /* [1, TOKENS, HEADS, dim] */
    flashring_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    tensor.data = data;
    tensor.stride_batch = TOKENS * HEADS * dim;
    tensor.stride_seq = HEADS * dim;
    tensor.stride_head = dim;
    return tensor;
}

static int failed(void) {
    fprintf(stderr, "%s\n", flashring_last_error());
    return 1;
}

int main(void) {
    float q[TOKENS * HEADS * DIM] = {0}, k[TOKENS * HEADS * DIM] = {0}, v[TOKENS * HEADS * DIM],
                             out[TOKENS * HEADS * DIM];
    float lse[TOKENS * HEADS];
    const flashring_range all = {0, TOKENS, 1}; /* position 0 on, so many of them, one apart */
    flashring_step step;
    int64_t bytes = 0;
    int status, i;

    for (i = 0; i < TOKENS * HEADS * DIM; ++i) v[i] = (float)(i / (HEADS * DIM)); /* token 0 is 0, token 1 is 1, ... */

    memset(&step, 0, sizeof step);
    step.size = sizeof step;
    step.device = FLASHRING_HOST;
    step.dtype = FLASHRING_FLOAT32;
    step.flags = FLASHRING_FINISH; /* all keys at once: no step before, none after */
    step.batch = 1;
    step.q_len = step.kv_len = TOKENS;
    step.q_heads = step.kv_heads = HEADS;
    step.head_dim = step.value_dim = DIM;
    step.softmax_scale = 0.5;
    step.q_positions.ranges = step.kv_positions.ranges = &all;
    step.q_positions.count = step.kv_positions.count = 1;
    step.mask.left = -1; /* any distance to the left, none to the right */
    step.q = tokens_of(q, DIM);
    step.k = tokens_of(k, DIM);
    step.v = tokens_of(v, DIM);
    step.out = tokens_of(out, DIM);
    step.lse = tokens_of(lse, 1);

    if (flashring_workspace_bytes(&step, FLASHRING_FORWARD, &bytes)) return failed();
    step.workspace = flashring_host_allocate(bytes);
    step.workspace_bytes = bytes;
    status = flashring_forward_step(&step);
    flashring_host_free(step.workspace);
    if (status) return failed();

    for (i = 0; i < TOKENS; ++i) {
        const float mean = out[i * HEADS * DIM], expected = (float)i / 2;
        printf("token %d: mean of 0 to %d is %g\n", i, i, mean);
        if (fabsf(mean - expected) > 1e-6f) {
            fprintf(stderr, "expected %g\n", expected);
            return 1;
        }
    }
    return 0;
}
