package org.flashring.attention;

import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Memory;
import org.flashring.plan.Footprint;
import org.flashring.plan.Plan;

/**
 * What a rank's queries gather between steps, in its block of memory; in the caller's tensors where their type allows.
 */
final class QueryTensors {
    private final DType wide;
    private final boolean resumes;
    private final Tensor state;
    private final Tensor lseLow;
    private final Tensor lse;
    private final Tensor delta;
    private final Tensor queryGrads;

    QueryTensors(Plan plan, Footprint footprint, boolean resumes, int rank, long base) {
        AttentionShape shape = plan.shape();
        long rows = plan.queries().localLength(rank);
        this.wide = shape.dtype().accumulator();
        this.resumes = resumes;
        this.state = Tensor.bshd(
                Memory.of(base + footprint.state()), wide, shape.batch(), rows, shape.queryHeads(), shape.valueDim());
        this.lseLow = Tensor.lse(Memory.of(base + footprint.lseLow()), wide, shape.batch(), shape.queryHeads(), rows);
        this.lse = Tensor.lse(Memory.of(base + footprint.lse()), wide, shape.batch(), shape.queryHeads(), rows);
        this.delta = Tensor.lse(Memory.of(base + footprint.delta()), wide, shape.batch(), shape.queryHeads(), rows);
        this.queryGrads = Tensor.bshd(
                Memory.of(base + footprint.queryGrads()),
                wide,
                shape.batch(),
                rows,
                shape.queryHeads(),
                shape.headDim());
    }

    /**
     * Returns where the running output is kept: in the output itself where its type allows, nowhere if one step does
     * all.
     */
    Tensor state(Tensor out) {
        return !resumes ? null : out.dtype() == wide ? out : state;
    }

    /** Returns where what rounding takes from lse is kept between steps; nowhere if one step does all. */
    Tensor lseLow() {
        return resumes ? lseLow : null;
    }

    /** Returns where forward leaves lse: in a place of its own where the caller wants none. */
    Tensor lse(Tensor given) {
        return given == null ? lse : given;
    }

    Tensor delta() {
        return delta;
    }

    /** Returns where dQ gathers. */
    Tensor queryGrads(Tensor dq) {
        return dq.dtype() == wide ? dq : queryGrads;
    }
}
