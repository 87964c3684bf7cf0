package org.flashring.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.util.NativeResource;
import org.bytedeco.javacpp.Pointer;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.Memory;

/**
 * Views of arrays of DJL's PyTorch engine as FlashRing tensors: the same memory with its strides, on the host or a CUDA
 * device, never a copy. The array is kept reachable and is to stay open while the view is in use; calls refuse the view
 * of a closed one.
 */
public final class DjlTensors {
    private DjlTensors() {}

    /**
     * Returns a view of a [batch, heads, length, dim] array, whatever the order of the first three in memory.
     *
     * @param name what a failure calls the array
     * @throws IllegalArgumentException unless the array is of DJL's PyTorch engine, has four dimensions of which the
     *     last is contiguous, holds floats, and lies on the host or a CUDA device
     */
    public static Tensor bhsd(String name, NDArray array) {
        return bhsd(TorchArray.of(name, array), new Owner(array));
    }

    /**
     * Returns a view of a [batch, length, heads, dim] array.
     *
     * @param name what a failure calls the array
     * @throws IllegalArgumentException as {@link #bhsd}
     */
    public static Tensor bshd(String name, NDArray array) {
        TorchArray facts = TorchArray.of(name, array);
        checkRows(facts);
        return view(facts, 0, 1, 2, 3, new Owner(array));
    }

    /**
     * Returns a view of a [batch, heads, length] array, the lse.
     *
     * @param name what a failure calls the array
     * @throws IllegalArgumentException unless the array is of DJL's PyTorch engine, has three dimensions, holds floats,
     *     and lies on the host or a CUDA device
     */
    public static Tensor lse(String name, NDArray array) {
        return lse(TorchArray.of(name, array), new Owner(array));
    }

    /**
     * Returns a view of a [heads] array, the sinks or their gradient.
     *
     * @param name what a failure calls the array
     * @throws IllegalArgumentException unless the array is of DJL's PyTorch engine, has one dimension, holds floats,
     *     and lies on the host or a CUDA device
     */
    public static Tensor sinks(String name, NDArray array) {
        return sinks(TorchArray.of(name, array), new Owner(array));
    }

    static Tensor sinks(TorchArray facts, Object owner) {
        checkDimensions(facts, 1);
        long heads = facts.size(0);
        return at(
                facts.address(),
                facts.device(),
                facts.dtype(),
                new long[] {1, 1, heads, 1},
                new long[] {heads, heads, facts.stride(0)},
                owner);
    }

    static Tensor bhsd(TorchArray facts, Object owner) {
        checkRows(facts);
        return view(facts, 0, 2, 1, 3, owner);
    }

    static Tensor lse(TorchArray facts, Object owner) {
        checkDimensions(facts, 3);
        return view(facts, 0, 2, 1, -1, owner);
    }

    private static Tensor view(TorchArray facts, int batch, int length, int heads, int dim, Object owner) {
        return at(
                facts.address(),
                facts.device(),
                facts.dtype(),
                new long[] {facts.size(batch), facts.size(length), facts.size(heads), dim < 0 ? 1 : facts.size(dim)},
                new long[] {facts.stride(batch), facts.stride(length), facts.stride(heads)},
                owner);
    }

    /**
     * Returns the tensor at an address of a device, as the other methods make it of what libtorch reports.
     *
     * @param sizes batch, length, heads, dim
     * @param strides of the first three, in elements
     */
    static Tensor at(long address, Device device, DType dtype, long[] sizes, long[] strides, Object owner) {
        long reach = sizes[3];
        boolean empty = sizes[3] == 0;
        for (int i = 0; i < 3; i++) {
            empty |= sizes[i] == 0;
            reach = Math.addExact(reach, Math.multiplyExact(sizes[i] - 1, strides[i]));
        }
        Memory memory = empty
                ? Memory.of(0, 0, device)
                : Memory.of(address, Math.multiplyExact(reach, dtype.bytes()), device, owner);
        return Tensor.strided(
                memory, dtype, sizes[0], sizes[1], sizes[2], sizes[3], strides[0], strides[1], strides[2]);
    }

    static void checkRows(TorchArray facts) {
        checkDimensions(facts, 4);
        if (facts.size(3) > 1 && facts.stride(3) != 1) {
            throw new IllegalArgumentException(facts.name() + " has elements of a head " + facts.stride(3)
                    + " apart, but they must lie side by side, as after flatten().reshape(getShape())");
        }
    }

    private static void checkDimensions(TorchArray facts, int dimensions) {
        if (facts.dimensions() != dimensions) {
            throw new IllegalArgumentException(
                    facts.name() + " has " + facts.dimensions() + " dimensions, but must have " + dimensions);
        }
    }

    /** Says of an array that it is closed in the one way in which a Memory asks for it; it points nowhere. */
    private static final class Owner extends Pointer {
        private final NDArray array;

        Owner(NDArray array) {
            this.array = array;
        }

        @Override
        public boolean isNull() {
            return ((NativeResource<?>) array).isReleased();
        }
    }
}
