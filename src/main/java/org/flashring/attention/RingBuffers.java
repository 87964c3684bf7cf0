package org.flashring.attention;

import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Memory;
import org.flashring.plan.BufferPlan;
import org.flashring.plan.Plan;

/** The tensors that lie in one rank's block of memory, made once so that a call makes none. Step s uses slot s mod 2. */
final class RingBuffers {
    private final Tensor[] slotKeys;
    private final Tensor[] slotValues;
    private final Tensor[] keyGrads;
    private final Tensor[] valueGrads;
    private final Tensor[] wireKeyGrads; // one more: the arrival at home
    private final Tensor[] wireValueGrads;
    private final Tensor state;
    private final Tensor lseLow;
    private final Tensor delta;
    private final Tensor queryGrads;
    private final BufferPlan layout;
    private final long base;
    private final DType wide;

    RingBuffers(Plan plan, int rank, BufferPlan layout, long base) {
        this.layout = layout;
        this.base = base;
        AttentionShape shape = plan.shape();
        DType wire = plan.wireDType();
        this.wide = shape.dtype().accumulator();
        int steps = plan.steps();
        slotKeys = new Tensor[steps];
        slotValues = new Tensor[steps];
        keyGrads = new Tensor[steps];
        valueGrads = new Tensor[steps];
        wireKeyGrads = new Tensor[steps + 1];
        wireValueGrads = new Tensor[steps + 1];
        for (int step = 0; step <= steps; step++) {
            boolean home = step == steps;
            int source = home ? rank : plan.source(rank, step);
            if (!home && layout.slotBytes() > 0) {
                slotKeys[step] = keys(plan, source, slot(step), shape.dtype());
                slotValues[step] = values(plan, source, slot(step), shape.dtype());
            }
            if (!home && plan.options().backward()) {
                keyGrads[step] = keys(plan, source, base + layout.stepGrads(), wide);
                valueGrads[step] = values(plan, source, base + layout.stepGrads(), wide);
            }
            if (layout.wireBytes() > 0) {
                wireKeyGrads[step] = keys(plan, source, wire(step), wire);
                wireValueGrads[step] = values(plan, source, wire(step), wire);
            }
        }
        long queries = plan.queries().localLength(rank);
        state = Tensor.bshd(Memory.of(base + layout.state()), wide, shape.batch(), queries, shape.queryHeads(), shape.valueDim());
        lseLow = Tensor.lse(Memory.of(base + layout.lseLow()), wide, shape.batch(), shape.queryHeads(), queries);
        delta = Tensor.lse(Memory.of(base + layout.delta()), wide, shape.batch(), shape.queryHeads(), queries);
        queryGrads = Tensor.bshd(Memory.of(base + layout.queryGrads()), wide, shape.batch(), queries, shape.queryHeads(), shape.headDim());
    }

    private static Tensor keys(Plan plan, int source, long address, DType dtype) {
        AttentionShape shape = plan.shape();
        return Tensor.bshd(Memory.of(address), dtype, shape.batch(), plan.keys().localLength(source), shape.kvHeads(), shape.headDim());
    }

    private static Tensor values(Plan plan, int source, long address, DType dtype) {
        AttentionShape shape = plan.shape();
        long keyBytes = shape.batch() * plan.keys().localLength(source) * shape.kvHeads() * shape.headDim() * dtype.bytes();
        return Tensor.bshd(Memory.of(address + keyBytes), dtype, shape.batch(), plan.keys().localLength(source), shape.kvHeads(), shape.valueDim());
    }

    /** Returns the address of the slot that holds the keys and values of {@code step}. */
    long slot(int step) {
        return base + layout.slots() + step % 2 * layout.slotBytes();
    }

    /** Returns the address of the slot that holds dK and dV of the keys of {@code step}. */
    long wire(int step) {
        return base + layout.wires() + step % 2 * layout.wireBytes();
    }

    Tensor slotKey(int step) {
        return slotKeys[step];
    }

    Tensor slotValue(int step) {
        return slotValues[step];
    }

    /** Returns the keys of {@code step}: the caller's own in the first. */
    Tensor key(int step, Tensor own) {
        return step == 0 ? own : slotKeys[step];
    }

    /** Returns the values of {@code step}: the caller's own in the first. */
    Tensor value(int step, Tensor own) {
        return step == 0 ? own : slotValues[step];
    }

    /** Returns where the running output is kept: in the output itself where its type allows, nowhere if one step does all. */
    Tensor state(Tensor out, boolean resumed) {
        return !resumed ? null : out.dtype() == wide ? out : state;
    }

    /** Returns where what rounding takes from lse is kept between steps; nowhere if one step does all. */
    Tensor lseLow(boolean resumed) {
        return resumed ? lseLow : null;
    }

    Tensor delta() {
        return delta;
    }

    /** Returns where dQ gathers: in the caller's tensor where its type allows. */
    Tensor queryGrad(Tensor dq) {
        return dq.dtype() == wide ? dq : queryGrads;
    }

    /** Returns where the only step leaves dK or dV: in the caller's tensor where its type allows. */
    Tensor wholeGrad(Tensor gradient, Tensor own) {
        return gradient.dtype() == wide ? gradient : own;
    }

    Tensor keyGrad(int step) {
        return keyGrads[step];
    }

    Tensor valueGrad(int step) {
        return valueGrads[step];
    }

    Tensor wireKeyGrad(int step) {
        return wireKeyGrads[step];
    }

    Tensor wireValueGrad(int step) {
        return wireValueGrads[step];
    }

    Tensor homeKeyGrad() {
        return wireKeyGrads[wireKeyGrads.length - 1];
    }

    Tensor homeValueGrad() {
        return wireValueGrads[wireValueGrads.length - 1];
    }
}
