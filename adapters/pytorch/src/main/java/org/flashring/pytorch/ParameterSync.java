package org.flashring.pytorch;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
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
    private record Group(DType dtype, TensorVector parameters, long[] counts, GradientSync sync) {}

    private final Device device;
    private final List<Group> groups = new ArrayList<>();
    private boolean closed;

    /**
     * Makes the sync of parameters that keep their sizes. It refers to them itself, whatever becomes of the vector.
     *
     * @param parameters the same on every rank, of any of the types that attention has, on the communicator's device
     * @throws IllegalArgumentException if there is no parameter with an element, or one is closed, undefined, sparse or
     *     of another type or device
     */
    public ParameterSync(TensorVector parameters, Communicator communicator) {
        this(List.of(parameters.get()), communicator);
    }

    /** As {@link #ParameterSync(TensorVector, Communicator)}. */
    public ParameterSync(List<Tensor> parameters, Communicator communicator) {
        this.device = communicator.device();
        for (int i = 0; i < parameters.size(); i++) {
            String name = "parameters[" + i + "]";
            Tensor parameter = parameters.get(i);
            TorchTensors.checkDense(name, parameter);
            TorchTensors.dtype(name, parameter);
            if (!TorchTensors.device(name, parameter).equals(device)) {
                throw new IllegalArgumentException(name + " lies on " + TorchTensors.device(name, parameter)
                        + ", but must lie on " + device + ", the communicator's device");
            }
        }
        for (DType dtype : DType.values()) {
            Tensor[] some = parameters.stream()
                    .filter(parameter -> TorchTensors.dtype("a parameter", parameter) == dtype && parameter.numel() > 0)
                    .toArray(Tensor[]::new);
            if (some.length > 0) {
                long[] counts = Stream.of(some).mapToLong(Tensor::numel).toArray();
                TensorVector own = new TensorVector(some).retainReference(); // not those of a vector that may go
                groups.add(new Group(
                        dtype,
                        own,
                        counts,
                        new GradientSync(communicator, dtype, counts, GradientSync.DEFAULT_BUCKET_BYTES)));
            }
        }
        if (groups.isEmpty()) {
            throw new IllegalArgumentException("parameters has no element");
        }
    }

    /**
     * Replaces every gradient, which is looked up anew, by its sum over ranks. A parameter that this rank's backward
     * did not reach has zeros to add, and has a gradient afterwards. Collective.
     *
     * @throws IllegalStateException if a gradient is sparse, not contiguous or of another type or size than its
     *     parameter had, of which none has then been sent, or after close
     */
    @SuppressWarnings("try") // a scope works by being open
    public void sum() {
        if (closed) {
            throw new IllegalStateException("ParameterSync is closed");
        }
        try (PointerScope scope = new PointerScope()) {
            List<Tensor[]> gradients =
                    groups.stream().map(ParameterSync::gradients).toList();
            long stream = CudaStreams.current(device);
            for (int g = 0; g < groups.size(); g++) {
                GradientSync sync = groups.get(g).sync();
                for (int i = gradients.get(g).length - 1; i >= 0; i--) {
                    sync.ready(i, gradients.get(g)[i].data_ptr().address(), stream);
                }
                sync.finish(stream);
            }
        }
    }

    private static Tensor[] gradients(Group group) {
        Tensor[] gradients = new Tensor[(int) group.parameters().size()];
        for (int i = 0; i < gradients.length; i++) {
            Tensor parameter = group.parameters().get(i);
            gradients[i] = gradient(parameter);
            if (!gradients[i].has_storage()
                    || !gradients[i].is_contiguous()
                    || gradients[i].numel() != group.counts()[i]
                    || TorchTensors.dtype("gradient", gradients[i]) != group.dtype()) {
                throw new IllegalStateException("the gradient of a parameter " + TorchTensors.shape(parameter)
                        + " is sparse, not contiguous or of another type or size than the parameter was");
            }
        }
        return gradients;
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
        if (!closed) {
            closed = true;
            groups.forEach(group -> {
                group.sync().close();
                group.parameters().releaseReference();
            });
        }
    }
}
