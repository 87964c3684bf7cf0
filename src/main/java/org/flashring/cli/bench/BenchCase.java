package org.flashring.cli.bench;

import org.flashring.AttentionShape;
import org.flashring.Mask;

/** One shape of the comparison: self-attention over {@code length} tokens, causal or full. */
record BenchCase(AttentionShape shape, long length, boolean causal) {
    static final String FLOPS =
            "FLOPs: forward 4 * batch * heads * length^2 * dim, half of it when causal; backward 2.5 times forward";

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

    /** Returns the bytes of what forward must read and write: q, k, v, out and lse, each once. */
    double forwardBytes() {
        return shape.batch()
                * length
                * (2.0
                                * (shape.queryHeads() + shape.kvHeads())
                                * shape.headDim()
                                * shape.dtype().bytes()
                        + shape.queryHeads() * shape.dtype().accumulator().bytes());
    }

    /** Returns twice the forward bytes, less an lse: dout, dq, dk and dv beside them. */
    double backwardBytes() {
        return 2 * forwardBytes()
                - (double) shape.batch()
                        * length
                        * shape.queryHeads()
                        * shape.dtype().accumulator().bytes();
    }

    /** Returns sizes in brief, such as B1 H32/8 S4096 D128. */
    String label() {
        String kv = shape.kvHeads() == shape.queryHeads() ? "" : "/" + shape.kvHeads();
        return "B" + shape.batch() + " H" + shape.queryHeads() + kv + " S" + length + " D" + shape.headDim();
    }
}
