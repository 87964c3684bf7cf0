package org.flashring.cli.train;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.DType;
import org.flashring.device.Memory;

/**
 * Views of PyTorch's host tensors as FlashRing tensors: the same memory, no copy, valid as long as the tensor is open.
 */
public final class TorchTensors {
    private TorchTensors() {}

    /**
     * Returns a view of a [batch, length, heads, dim] tensor.
     *
     * @throws IllegalArgumentException unless the tensor lies in host memory, has four dimensions of which the last is
     *     contiguous, and holds floats
     */
    public static org.flashring.Tensor bshd(Tensor tensor) {
        check(tensor, 4);
        if (tensor.size(3) > 1 && tensor.stride(3) != 1) {
            throw new IllegalArgumentException("tensor.stride(3) is " + tensor.stride(3) + ", but must be 1");
        }
        return org.flashring.Tensor.strided(
                memory(tensor),
                dtype(tensor),
                tensor.size(0),
                tensor.size(1),
                tensor.size(2),
                tensor.size(3),
                tensor.stride(0),
                tensor.stride(1),
                tensor.stride(2));
    }

    /**
     * Returns a view of a [batch, heads, length] tensor, the lse.
     *
     * @throws IllegalArgumentException unless the tensor lies in host memory, has three dimensions and holds floats
     */
    public static org.flashring.Tensor lse(Tensor tensor) {
        check(tensor, 3);
        return org.flashring.Tensor.strided(
                memory(tensor),
                dtype(tensor),
                tensor.size(0),
                tensor.size(2),
                tensor.size(1),
                1,
                tensor.stride(0),
                tensor.stride(2),
                tensor.stride(1));
    }

    private static void check(Tensor tensor, int dimensions) {
        if (tensor.dim() != dimensions) {
            throw new IllegalArgumentException("tensor.dim() is " + tensor.dim() + ", but must be " + dimensions);
        }
        if (!tensor.is_cpu()) {
            throw new IllegalArgumentException("tensor.device() is " + tensor.device() + ", but must be the host");
        }
    }

    private static Memory memory(Tensor tensor) {
        return Memory.of(tensor.numel() == 0 ? 0 : tensor.data_ptr().address());
    }

    private static DType dtype(Tensor tensor) {
        ScalarType type = tensor.scalar_type().intern();
        return switch (type) {
            case Double -> DType.FLOAT64;
            case Float -> DType.FLOAT32;
            case BFloat16 -> DType.BFLOAT16;
            case Half -> DType.FLOAT16;
            default ->
                throw new IllegalArgumentException(
                        "tensor.scalar_type() is " + type + ", but must be Double, Float, BFloat16 or Half");
        };
    }
}
