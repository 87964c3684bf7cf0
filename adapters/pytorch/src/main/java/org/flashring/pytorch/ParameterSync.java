package org.flashring.pytorch;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.device.Device;
import org.flashring.sync.GradientSync;

/**
 * Sums the gradients of a model's parameters over ranks, which hold equal models: what data-parallel training does, and
 * what a sharded sequence needs.
 *
 * <pre>{@code
 * try (ParameterSync sync = new ParameterSync(module.parameters(), communicator)) {
 *     loss.backward();
 *     sync.sum();
 *     optimizer.step();
 * }
 * }</pre>
 */
public final class ParameterSync implements AutoCloseable {
    private record Group(DType dtype, List<Tensor> parameters, GradientSync sync) {}

    private final Device device;
    private final List<Group> groups = new ArrayList<>();

    /**
     * Makes the sync of parameters that stay open and keep their sizes.
     *
     * @param parameters the same on every rank, of any of the types that attention has, on the communicator's device
     * @throws IllegalArgumentException if there is no parameter with an element, or one is of another type or device
     */
    public ParameterSync(TensorVector parameters, Communicator communicator) {
        this(List.of(parameters.get()), communicator);
    }

    /** As {@link #ParameterSync(TensorVector, Communicator)}. */
    public ParameterSync(List<Tensor> parameters, Communicator communicator) {
        this.device = communicator.device();
        for (DType dtype : DType.values()) {
            List<Tensor> some = new ArrayList<>();
            for (int i = 0; i < parameters.size(); i++) {
                Tensor parameter = parameters.get(i);
                String name = "parameters[" + i + "]";
                if (!TorchTensors.device(name, parameter).equals(device)) {
                    throw new IllegalArgumentException(name + " lies on " + TorchTensors.device(name, parameter)
                            + ", but must lie on " + device + ", the communicator's device");
                }
                if (TorchTensors.dtype(name, parameter) == dtype && parameter.numel() > 0) {
                    some.add(parameter);
                }
            }
            if (!some.isEmpty()) {
                long[] counts = some.stream().mapToLong(Tensor::numel).toArray();
                groups.add(new Group(
                        dtype, some, new GradientSync(communicator, dtype, counts, GradientSync.DEFAULT_BUCKET_BYTES)));
            }
        }
        if (groups.isEmpty()) {
            throw new IllegalArgumentException("parameters has no element");
        }
    }

    /**
     * Replaces every gradient by its sum over ranks. A parameter that this rank's backward did not reach has zeros to
     * add, and has a gradient afterwards. Collective.
     *
     * @throws IllegalStateException if a gradient is sparse, not contiguous or of another type than its parameter
     */
    @SuppressWarnings("try") // a scope works by being open
    public void sum() {
        try (PointerScope scope = new PointerScope()) {
            long stream = CudaStreams.current(device);
            for (Group group : groups) {
                for (int i = group.parameters().size() - 1; i >= 0; i--) {
                    Tensor gradient = gradient(group.parameters().get(i));
                    if (!gradient.is_contiguous() || TorchTensors.dtype("gradient", gradient) != group.dtype()) {
                        throw new IllegalStateException("the gradient of a parameter "
                                + TorchTensors.shape(group.parameters().get(i))
                                + " is not contiguous or of another type than the parameter");
                    }
                    group.sync().ready(i, gradient.data_ptr().address(), stream);
                }
                group.sync().finish(stream);
            }
        }
    }

    private static Tensor gradient(Tensor parameter) {
        Tensor gradient = parameter.grad();
        if (!gradient.defined()) {
            parameter.mutable_grad().put(torch.zeros_like(parameter).detach());
            gradient = parameter.grad();
        }
        return gradient;
    }

    /** Frees the buffers. Closing twice is harmless; parameters and communicator stay open. */
    @Override
    public void close() {
        groups.forEach(group -> group.sync().close());
    }
}
