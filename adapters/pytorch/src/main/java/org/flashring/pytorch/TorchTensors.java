package org.flashring.pytorch;

import org.bytedeco.javacpp.Pointer;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorBase;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.device.Memory;

/**
 * Views of PyTorch's tensors as FlashRing tensors: the same memory, on the host or a CUDA device, never a copy. The
 * tensor is kept reachable and is to stay open while the view is in use.
 */
public final class TorchTensors {
    private TorchTensors() {}

    /**
     * Returns a view of a [batch, heads, length, dim] tensor, the order of {@code scaled_dot_product_attention}.
     *
     * @param name what a failure calls the tensor
     * @throws IllegalArgumentException unless the tensor has four dimensions of which the last is contiguous, holds
     *     floats, and lies on the host or a CUDA device
     */
    public static org.flashring.Tensor bhsd(String name, TensorBase tensor) {
        checkRows(name, tensor);
        return view(name, tensor, 0, 2, 1, 3);
    }

    /**
     * Returns a view of a [batch, length, heads, dim] tensor.
     *
     * @param name what a failure calls the tensor
     * @throws IllegalArgumentException as {@link #bhsd}
     */
    public static org.flashring.Tensor bshd(String name, TensorBase tensor) {
        checkRows(name, tensor);
        return view(name, tensor, 0, 1, 2, 3);
    }

    /**
     * Returns a view of a [batch, heads, length] tensor, the lse.
     *
     * @param name what a failure calls the tensor
     * @throws IllegalArgumentException unless the tensor has three dimensions, holds floats, and lies on the host or a
     *     CUDA device
     */
    public static org.flashring.Tensor lse(String name, TensorBase tensor) {
        checkDimensions(name, tensor, 3);
        return view(name, tensor, 0, 2, 1, -1);
    }

    /**
     * Returns a view of a [heads] tensor, the sinks or their gradient.
     *
     * @param name what a failure calls the tensor
     * @throws IllegalArgumentException unless the tensor has one dimension, holds floats, and lies on the host or a
     *     CUDA device
     */
    public static org.flashring.Tensor sinks(String name, TensorBase tensor) {
        checkDimensions(name, tensor, 1);
        long heads = tensor.size(0);
        return of(name, tensor, new long[] {1, 1, heads, 1}, new long[] {heads, heads, tensor.stride(0)});
    }

    private static org.flashring.Tensor view(
            String name, TensorBase tensor, int batch, int length, int heads, int dim) {
        return of(
                name,
                tensor,
                new long[] {tensor.size(batch), tensor.size(length), tensor.size(heads), dim < 0 ? 1 : tensor.size(dim)
                },
                new long[] {tensor.stride(batch), tensor.stride(length), tensor.stride(heads)});
    }

    private static org.flashring.Tensor of(String name, TensorBase tensor, long[] sizes, long[] strides) {
        Device device = device(name, tensor); // before the address, which others have not
        DType dtype = dtype(name, tensor);
        return at(address(name, tensor), device, dtype, sizes, strides, tensor);
    }

    /**
     * Returns the tensor at an address of a device, as the other methods make it of what PyTorch reports.
     *
     * @param sizes batch, length, heads, dim
     * @param strides of the first three, in elements
     */
    static org.flashring.Tensor at(
            long address, Device device, DType dtype, long[] sizes, long[] strides, Object owner) {
        long reach = sizes[3];
        boolean empty = sizes[3] == 0;
        for (int i = 0; i < 3; i++) {
            empty |= sizes[i] == 0;
            reach = Math.addExact(reach, Math.multiplyExact(sizes[i] - 1, strides[i]));
        }
        Memory memory = empty
                ? Memory.of(0, 0, device)
                : Memory.of(address, Math.multiplyExact(reach, dtype.bytes()), device, owner);
        return org.flashring.Tensor.strided(
                memory, dtype, sizes[0], sizes[1], sizes[2], sizes[3], strides[0], strides[1], strides[2]);
    }

    private static long address(String name, TensorBase tensor) {
        if (tensor.numel() == 0) {
            return 0;
        }
        Pointer data = tensor.data_ptr();
        if (data == null || data.isNull()) {
            throw new IllegalArgumentException(name + ".data_ptr() is null, but must point to " + tensor.numel()
                    + " elements: its memory has been given back or never was");
        }
        return data.address();
    }

    static void checkRows(String name, TensorBase tensor) {
        checkDimensions(name, tensor, 4);
        if (tensor.size(3) > 1 && tensor.stride(3) != 1) {
            throw new IllegalArgumentException(name + ".stride(3) is " + tensor.stride(3)
                    + ", but must be 1: the elements of a head lie side by side, as after contiguous()");
        }
    }

    private static void checkDimensions(String name, TensorBase tensor, int dimensions) {
        checkDense(name, tensor);
        if (tensor.dim() != dimensions) {
            throw new IllegalArgumentException(name + ".dim() is " + tensor.dim() + ", but must be " + dimensions);
        }
    }

    /**
     * Checks that a tensor is open and its values lie in memory as its strides say.
     *
     * @throws IllegalArgumentException if it is null, closed, undefined, sparse, opaque or negated when it is read
     */
    static void checkDense(String name, TensorBase tensor) {
        if (tensor == null || tensor.isNull()) {
            throw new IllegalArgumentException(name + " is " + (tensor == null ? "null" : "closed"));
        }
        if (!tensor.defined()) {
            throw new IllegalArgumentException(name + " is undefined, but must be a tensor");
        }
        if (!tensor.has_storage()) {
            throw new IllegalArgumentException(
                    name + ".layout() is " + tensor.layout().intern() + ", but must be Strided, as after to_dense()");
        }
        if (tensor.is_neg()) {
            throw new IllegalArgumentException(name
                    + ".is_neg() is true, but must be false, as after resolve_neg(): its memory has the other sign");
        }
    }

    /**
     * Returns the device that a tensor lies on.
     *
     * @throws IllegalArgumentException unless it is the host or a CUDA device
     */
    static Device device(String name, TensorBase tensor) {
        if (tensor.is_cpu()) {
            return Device.HOST;
        }
        if (!tensor.is_cuda()) {
            throw new IllegalArgumentException(name + ".device() is "
                    + tensor.device().str().getString() + ", but must be the host or a CUDA device");
        }
        return Device.cuda(tensor.device().index());
    }

    /**
     * Returns the element type of a tensor.
     *
     * @throws IllegalArgumentException unless it is Double, Float, BFloat16 or Half
     */
    static DType dtype(String name, TensorBase tensor) {
        ScalarType type = tensor.scalar_type().intern();
        return switch (type) {
            case Double -> DType.FLOAT64;
            case Float -> DType.FLOAT32;
            case BFloat16 -> DType.BFLOAT16;
            case Half -> DType.FLOAT16;
            default ->
                throw new IllegalArgumentException(
                        name + ".scalar_type() is " + type + ", but must be Double, Float, BFloat16 or Half");
        };
    }

    /** Returns the tensor's size of a dimension and others, for messages: [2, 4, 16, 64]. */
    static String shape(Tensor tensor) {
        StringBuilder text = new StringBuilder("[");
        for (int i = 0; i < tensor.dim(); i++) {
            text.append(i == 0 ? "" : ", ").append(tensor.size(i));
        }
        return text.append("]").toString();
    }
}
