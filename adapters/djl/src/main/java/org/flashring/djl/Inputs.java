package org.flashring.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.engine.PtNDManager;
import ai.djl.pytorch.jni.JniUtils;
import org.flashring.Tensor;
import org.flashring.attention.AttentionCalls;
import org.flashring.attention.Forward;
import org.flashring.internal.LibTorch;

/** The inputs of a call, which fit each other. */
final class Inputs {
    private static final String[] NAMES = {"q", "k", "v", "sinks"};
    private static final int SINKS = 3; // null without

    private final NDArray[] arrays;
    private final TorchArray[] facts = new TorchArray[4];
    private final boolean differentiable;

    /**
     * Checks what does not depend on a plan.
     *
     * @param sinks null if there are none
     */
    Inputs(NDArray q, NDArray k, NDArray v, NDArray sinks) {
        arrays = new NDArray[] {q, k, v, sinks};
        for (int i = 0; i < 3; i++) {
            facts[i] = TorchArray.of(NAMES[i], arrays[i]);
            DjlTensors.checkRows(facts[i]);
            requireAs(facts[i], facts[0]);
        }
        requireSize(k(), 0, q(), 0);
        requireSize(v(), 0, q(), 0);
        requireSize(v(), 1, k(), 1);
        requireSize(v(), 2, k(), 2);
        requireSize(k(), 3, q(), 3);
        if (sinks != null) {
            facts[SINKS] = TorchArray.of(NAMES[SINKS], sinks);
            sinks(); // the kernel's own checks look at type, size and stride
        }
        boolean any = false;
        for (TorchArray input : facts) {
            any |= input != null && input.requiresGradient();
        }
        differentiable = any && JniUtils.isGradMode();
    }

    private static void requireAs(TorchArray array, TorchArray q) {
        if (array.dtype() != q.dtype()) {
            throw new IllegalArgumentException(
                    array.name() + " holds " + array.dtype() + ", but must hold " + q.dtype() + " as q does");
        }
        if (!array.device().equals(q.device())) {
            throw new IllegalArgumentException(
                    array.name() + " lies on " + array.device() + ", but must lie on " + q.device() + " as q does");
        }
    }

    private static void requireSize(TorchArray array, int dimension, TorchArray other, int otherDimension) {
        if (array.size(dimension) != other.size(otherDimension)) {
            throw new IllegalArgumentException(
                    array.name() + "'s size " + dimension + " is " + array.size(dimension) + ", but must be "
                            + other.size(otherDimension) + " as size " + otherDimension + " of " + other.name());
        }
    }

    TorchArray q() {
        return facts[0];
    }

    TorchArray k() {
        return facts[1];
    }

    TorchArray v() {
        return facts[2];
    }

    private Tensor sinks() {
        return facts[SINKS] == null ? null : DjlTensors.sinks(facts[SINKS], arrays[SINKS]);
    }

    /** Returns whether the result is to be part of the autograd graph. */
    boolean differentiable() {
        return differentiable;
    }

    /**
     * Returns the output of {@code calls}, attached to the graph if that is wanted, on the manager of q.
     *
     * @param calls null where there is no element
     * @param lse whether {@code calls} want a place for it
     */
    NDArray attend(AttentionCalls calls, boolean lse) {
        long out = q().newBhsd(q().size(0), q().size(1), q().size(2), v().size(3));
        long rows = 0;
        try {
            rows = lse ? q().newLse(q().size(0), q().size(1), q().size(2)) : 0;
            if (calls != null) {
                calls.forward(
                        new Forward(
                                DjlTensors.bhsd(facts[0], arrays[0]),
                                DjlTensors.bhsd(facts[1], arrays[1]),
                                DjlTensors.bhsd(facts[2], arrays[2]),
                                DjlTensors.bhsd(TorchArray.of("out", out), this),
                                lse ? DjlTensors.lse(TorchArray.of("lse", rows), this) : null,
                                sinks()),
                        q().stream());
            }
            if (differentiable) {
                long given = rows;
                rows = 0;
                AttentionNode.attach(calls, facts, out, given);
            }
            NDArray result = new PtNDArray((PtNDManager) arrays[0].getManager(), out);
            out = 0;
            return result;
        } finally {
            free(rows);
            free(out);
        }
    }

    private static void free(long handle) {
        if (handle != 0) {
            LibTorch.free(handle);
        }
    }
}
