package org.flashring.cli.bench;

import org.flashring.AttentionShape;
import org.flashring.Mask;

/**
 * One shape of the comparison: self-attention over {@code length} tokens, causal or full.
 *
 * @param window how many of the nearest keys a query sees, its own counted, if not causal on both sides; null for all
 */
record BenchCase(AttentionShape shape, long length, boolean causal, Long window) {
    static final String FLOPS =
            "FLOPs: forward 4 * batch * heads * length^2 * dim, half of it when causal; backward 2.5 times forward";

    /** Makes one in which queries see all keys, or all up to their own. */
    BenchCase(AttentionShape shape, long length, boolean causal) {
        this(shape, length, causal, null);
    }

    Mask mask() {
        Mask mask = causal ? Mask.causal() : Mask.full();
        return window == null ? mask : mask.window(window - 1, causal ? 0 : window - 1);
    }

    /** Returns 4 * batch * heads * length^2 * dim, halved when causal; under a window the share of the pairs in it. */
    double forwardFlops() {
        double full = 4.0 * shape.batch() * shape.queryHeads() * length * length * shape.headDim();
        if (window != null && window < length) {
            double before = (double) length * window - window * (window - 1) / 2.0; // pairs of a query and no later key
            return full * (causal ? before : 2 * before - length) / length / length;
        }
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

    /** Returns the mask in brief. */
    String maskLabel() {
        return (causal ? "causal" : "full") + (window == null ? "" : " window " + window);
    }
}
