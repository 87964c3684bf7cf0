/* The header and the library from plain C: one query, two keys, checked by hand. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flashring.h"

int main(void) {
    double q[1] = {1}, k[2] = {0, 0.69314718055994530942}, v[2] = {3, 6}, out[1], lse[1];
    const flashring_range one = {1, 1, 1}, two = {0, 2, 1};
    flashring_step step;
    int64_t bytes = 0;
    int32_t row = -1;

    memset(&step, 0, sizeof step);
    step.size = sizeof step;
    step.device = FLASHRING_HOST;
    step.dtype = FLASHRING_FLOAT64;
    step.flags = FLASHRING_FINISH;
    step.batch = step.q_len = step.q_heads = step.kv_heads = step.head_dim = step.value_dim = 1;
    step.kv_len = 2;
    step.softmax_scale = 1;
    step.q_positions.ranges = &one;
    step.kv_positions.ranges = &two;
    step.q_positions.count = step.kv_positions.count = 1;
    step.mask.left = -1;
    step.q.data = q;
    step.k.data = k;
    step.v.data = v;
    step.k.stride_seq = step.v.stride_seq = 1;
    step.out.data = out;
    step.lse.data = lse;
    if (flashring_select(&step, FLASHRING_FORWARD, &row) ||
        flashring_workspace_bytes(&step, FLASHRING_FORWARD, &bytes)) {
        fprintf(stderr, "%s\n", flashring_last_error());
        return 1;
    }
    step.workspace = flashring_host_allocate(bytes);
    step.workspace_bytes = bytes;
    if (flashring_forward_step(&step)) {
        fprintf(stderr, "%s\n", flashring_last_error());
        return 1;
    }
    /* As a program that was compiled with the first release's header, whose step ended before lse_low. */
    step.size = offsetof(flashring_step, lse_low);
    if (flashring_forward_step(&step)) {
        fprintf(stderr, "%s\n", flashring_last_error());
        return 1;
    }
    flashring_host_free(step.workspace);
    /* Weights 1/3 and 2/3. */
    if (fabs(out[0] - 5) > 1e-14 || fabs(lse[0] - log(3)) > 1e-14) {
        fprintf(stderr, "out %.17g instead of 5, lse %.17g instead of log 3\n", out[0], lse[0]);
        return 1;
    }
    printf("flashring %s from C: row %d, %d threads, %d devices %s\n", flashring_version(), row, flashring_threads(),
           flashring_device_count(), flashring_device_cause());
    return 0;
}
