package org.flashring.cli.bench;

import org.flashring.AttentionShape;
import org.flashring.Mask;

/** One shape of the comparison: self-attention over {@code length} tokens, causal or full. */
record BenchCase(AttentionShape shape, long length, boolean causal) {
    Mask mask() {
        return causal ? Mask.causal() : Mask.full();
    }

    /** Returns 4 * batch * heads * length^2 * dim, halved when causal. */
    double forwardFlops() {
        double full = 4.0 * shape.batch() * shape.queryHeads() * length * length * shape.headDim();
        return causal ? full / 2 : full;
    }

    /** Returns 2.5 times the forward operations: five products where forward has two. */
    double backwardFlops() {
        return 2.5 * forwardFlops();
    }
}
