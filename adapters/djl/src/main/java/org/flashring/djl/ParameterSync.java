package org.flashring.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.JniUtils;
import java.util.ArrayList;
import java.util.List;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.sync.GradientSync;

/**
 * Sums the gradients of a model's parameters over ranks, which hold equal models: what data-parallel training does, and
 * what a sharded sequence needs.
 *
 * <pre>{@code
 * try (ParameterSync sync = new ParameterSync(parameters, communicator)) {
 *     collector.backward(loss);
 *     sync.sum();
 *     // update each parameter by its gradient
 * }
 * }</pre>
 */
public final class ParameterSync implements AutoCloseable {
    private final List<NDArray> parameters;
    private final DType dtype;
    private final long[] counts;
    private final GradientSync sync;

    /**
     * Makes the sync of parameters that stay open and keep their sizes.
     *
     * @param parameters the same on every rank, all of one type, each with an element and a gradient, on the
     *     communicator's device
     * @throws IllegalArgumentException if there is none, or one of them is otherwise
     */
    public ParameterSync(List<NDArray> parameters, Communicator communicator) {
        if (parameters.isEmpty()) {
            throw new IllegalArgumentException("parameters is empty, but must have an array");
        }
        this.counts = new long[parameters.size()];
        this.dtype = TorchArray.of("parameters[0]", parameters.get(0)).dtype();
        for (int i = 0; i < counts.length; i++) {
            TorchArray parameter = TorchArray.of("parameters[" + i + "]", parameters.get(i));
            counts[i] = parameter.elements();
            require(
                    parameter,
                    "holds " + parameter.dtype(),
                    parameter.dtype() == dtype,
                    "hold " + dtype + " as others");
            require(parameter, "is empty", counts[i] > 0, "have an element");
            require(
                    parameter,
                    "lies on " + parameter.device(),
                    parameter.device().equals(communicator.device()),
                    "lie on " + communicator.device() + ", the communicator's device");
            require(parameter, "has no gradient", parameter.requiresGradient(), "have one: setRequiresGradient(true)");
        }
        this.parameters = List.copyOf(parameters);
        this.sync = new GradientSync(communicator, dtype, counts, GradientSync.DEFAULT_BUCKET_BYTES);
    }

    private static void require(TorchArray array, String is, boolean right, String must) {
        if (!right) {
            throw new IllegalArgumentException(array.name() + " " + is + ", but must " + must);
        }
    }

    /**
     * Replaces every gradient, which is looked up anew, by its sum over ranks: zeros of a rank whose backward did not
     * reach the parameter. Collective.
     *
     * @throws IllegalStateException if a gradient is not contiguous or of another type or size than its parameter, of
     *     which none has then been sent, or after close
     * @throws IllegalArgumentException likewise if one is sparse
     */
    public void sum() {
        List<NDArray> gradients = new ArrayList<>();
        try {
            TorchArray[] facts = new TorchArray[counts.length];
            for (int i = 0; i < facts.length; i++) {
                gradients.add(gradient(i));
                facts[i] = fitting(i, gradients.get(i));
            }
            long stream = facts[0].stream();
            for (int i = facts.length - 1; i >= 0; i--) {
                sync.ready(i, facts[i].address(), stream);
            }
            sync.finish(stream);
        } finally {
            gradients.forEach(NDArray::close);
        }
    }

    private TorchArray fitting(int parameter, NDArray gradient) {
        TorchArray facts = facts(parameter, gradient);
        if (facts.dtype() != dtype || facts.elements() != counts[parameter] || !facts.contiguous()) {
            throw new IllegalStateException(facts.name() + " has " + facts.elements() + " elements of "
                    + facts.dtype() + (facts.contiguous() ? "" : ", not contiguous") + ", but must have "
                    + counts[parameter] + " of " + dtype + ", one behind the other");
        }
        return facts;
    }

    /** Returns a parameter's gradient. Where no backward has been DJL shows zeros that are not the parameter's. */
    private NDArray gradient(int parameter) {
        PtNDArray array = (PtNDArray) parameters.get(parameter);
        NDArray gradient = array.getGradient();
        try (NDArray again = array.getGradient()) {
            if (address(parameter, gradient) != address(parameter, again)) {
                JniUtils.backward(array, (PtNDArray) gradient, false, false);
                gradient.close();
                gradient = array.getGradient();
            }
        }
        return gradient;
    }

    private static long address(int parameter, NDArray gradient) {
        return facts(parameter, gradient).address();
    }

    private static TorchArray facts(int parameter, NDArray gradient) {
        return TorchArray.of("the gradient of parameters[" + parameter + "]", gradient);
    }

    /** Frees the buffers. Closing twice is harmless; parameters and communicator stay open. */
    @Override
    public void close() {
        sync.close();
    }
}
