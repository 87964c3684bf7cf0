package org.flashring.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.JniUtils;
import ai.djl.training.GradientCollector;
import java.util.List;

/**
 * A gradient collector of one thread: of the engine's own there is one at a time in a process, so ranks that are
 * threads each have one of these. Gradients are collected in the thread that made it, until it closes it.
 */
public final class ThreadGradientCollector implements GradientCollector {
    private final List<NDArray> parameters;
    private final boolean before;
    private boolean closed;

    /**
     * Begins to collect; the gradients that {@code parameters} have become zero.
     *
     * @param parameters whose gradients {@link #zeroGradients} clears: this thread's, not those of others
     */
    public ThreadGradientCollector(List<NDArray> parameters) {
        for (int i = 0; i < parameters.size(); i++) {
            TorchArray.of("parameters[" + i + "]", parameters.get(i));
        }
        this.parameters = List.copyOf(parameters);
        zeroGradients();
        this.before = JniUtils.isGradMode();
        JniUtils.setGradMode(true);
    }

    /**
     * Adds the gradients of {@code target}'s sum to those of all arrays that it depends on.
     *
     * @throws IllegalArgumentException if it is null, closed or of another engine, or of a type of which DJL can make
     *     no ones, such as bfloat16: DJL's own collector ends the process there
     */
    @Override
    public void backward(NDArray target) {
        if (target != null && !target.getDataType().isFloating()) {
            throw new IllegalArgumentException(
                    "target is of type " + target.getDataType() + ", but must be float64, float32 or float16");
        }
        TorchArray.of("target", target);
        try (NDArray ones = target.onesLike()) {
            JniUtils.backward((PtNDArray) target, (PtNDArray) ones, false, false);
        }
    }

    @Override
    public void zeroGradients() {
        for (NDArray parameter : parameters) {
            if (parameter.hasGradient()) {
                JniUtils.zeroGrad((PtNDArray) parameter);
            }
        }
    }

    /** Ends collecting: the thread's mode is what it was before. Closing twice is harmless. */
    @Override
    public void close() {
        if (!closed) {
            closed = true;
            JniUtils.setGradMode(before);
        }
    }
}
