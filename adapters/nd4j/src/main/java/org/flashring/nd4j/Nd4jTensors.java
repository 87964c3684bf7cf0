package org.flashring.nd4j;

import java.util.Arrays;
import org.bytedeco.javacpp.Pointer;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.Memory;
import org.nd4j.linalg.api.buffer.DataBuffer;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.memory.MemoryWorkspace;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.api.ops.executioner.OpExecutioner.ExecutionerType;
import org.nd4j.linalg.factory.Nd4j;

/**
 * Views of ND4J's arrays as FlashRing tensors: the same memory, never a copy, whatever the array's order ('c' or 'f'),
 * strides and offset. The one rule is that the elements of a head lie side by side. The array is kept reachable and is
 * to stay open, and its workspace entered, while the view is in use; calls refuse the view of one that is not.
 */
public final class Nd4jTensors {
    private static final int[] BHSD = {0, 2, 1, 3};
    private static final int[] BSHD = {0, 1, 2, 3};
    private static final int[] BHDS = {0, 3, 1, 2};

    private Nd4jTensors() {}

    /**
     * Returns a view of a [batch, heads, length, dim] array.
     *
     * @param name what a failure calls the array
     * @throws IllegalArgumentException unless the array is open and in a workspace that is entered, has four
     *     dimensions, the elements of dim side by side, and holds floats
     * @throws UnsupportedOperationException unless ND4J's backend is that of the CPU
     */
    public static Tensor bhsd(String name, INDArray array) {
        return rows(name, array, BHSD);
    }

    /**
     * Returns a view of a [batch, length, heads, dim] array, which a projection's [batch, length, heads · dim] is after
     * a reshape.
     *
     * @param name what a failure calls the array
     * @throws IllegalArgumentException as {@link #bhsd}
     */
    public static Tensor bshd(String name, INDArray array) {
        return rows(name, array, BSHD);
    }

    /**
     * Returns a view of a [batch, heads, dim, length] array, the order of ND4J's own attention. Its memory has to be
     * that of another order: see {@link #createBhds}.
     *
     * @param name what a failure calls the array
     * @throws IllegalArgumentException as {@link #bhsd}
     */
    public static Tensor bhds(String name, INDArray array) {
        return rows(name, array, BHDS);
    }

    /**
     * Returns a new array of shape [batch, heads, dim, length], as ND4J's own attention takes and gives it, with the
     * elements of a head side by side, as ours needs them: both read and write it where it lies. Its values are not
     * set. Its memory has the order batch, length, heads, dim.
     */
    public static INDArray createBhds(DataType type, long batch, long heads, long dim, long length) {
        return Nd4j.createUninitialized(type, batch, length, heads, dim).permute(0, 2, 3, 1);
    }

    /**
     * Returns a view of a [heads] array, the sinks or their gradient.
     *
     * @param name what a failure calls the array
     * @throws IllegalArgumentException unless the array is open and in a workspace that is entered, has one dimension,
     *     and holds floats
     * @throws UnsupportedOperationException unless ND4J's backend is that of the CPU
     */
    public static Tensor sinks(String name, INDArray array) {
        check(name, array, 1);
        long heads = array.size(0);
        return Tensor.strided(memoryOf(name, array), dtype(name, array), 1, 1, heads, 1, heads, heads, array.stride(0));
    }

    private static Tensor rows(String name, INDArray array, int[] order) {
        check(name, array, 4);
        int dim = order[3];
        if (array.size(dim) > 1 && array.stride(dim) != 1 && !array.isEmpty()) {
            throw new IllegalArgumentException(name + ".stride(" + dim + ") is " + array.stride(dim)
                    + ", but must be 1: the elements of a head lie side by side, as after permute and dup('c')");
        }
        return Tensor.strided(
                memoryOf(name, array),
                dtype(name, array),
                array.size(order[0]),
                array.size(order[1]),
                array.size(order[2]),
                array.size(dim),
                array.stride(order[0]),
                array.stride(order[1]),
                array.stride(order[2]));
    }

    private static Memory memoryOf(String name, INDArray array) {
        return array.isEmpty()
                ? Memory.of(0, 0, Device.HOST)
                : memory(new Owner(array), array.data(), dtype(name, array));
    }

    /**
     * Returns the memory of a buffer of our own.
     *
     * @throws IllegalArgumentException if it lies in a workspace that has been left
     */
    static Memory memory(String name, DataBuffer buffer, DType dtype) {
        requireInScope(name, buffer);
        return memory(buffer, buffer, dtype);
    }

    /** Returns the memory from the first element to the end of the buffer that {@code owner} keeps. */
    private static Memory memory(Object owner, DataBuffer buffer, DType dtype) {
        return Memory.of(
                buffer.pointer().address() + buffer.offset() * dtype.bytes(),
                (buffer.underlyingLength() - buffer.offset()) * dtype.bytes(),
                Device.HOST,
                owner);
    }

    static void check(String name, INDArray array, int dimensions) {
        if (array == null || array.wasClosed()) {
            throw new IllegalArgumentException(name + " is " + (array == null ? "null" : "closed"));
        }
        if (array.rank() != dimensions) {
            throw new IllegalArgumentException(name + ".rank() is " + array.rank() + ", but must be " + dimensions);
        }
        requireHost(Backend.TYPE);
        if (!array.isEmpty()) {
            requireInScope(name, array.data());
        }
    }

    private static void requireInScope(String name, DataBuffer buffer) {
        if (isLeft(buffer)) {
            throw new IllegalArgumentException(name + " lies in workspace "
                    + buffer.getParentWorkspace().getId()
                    + ", which has been left since, but must lie in memory that is its own: detach() it before");
        }
    }

    /** A buffer of a workspace is memory that ND4J uses again once the workspace has been left. */
    private static boolean isLeft(DataBuffer buffer) {
        MemoryWorkspace workspace = buffer.getParentWorkspace();
        return workspace != null
                && workspace.getWorkspaceType() != MemoryWorkspace.Type.CIRCULAR
                && (!workspace.isScopeActive() || workspace.getGenerationId() != buffer.getGenerationId());
    }

    static void requireHost(ExecutionerType backend) {
        if (backend != ExecutionerType.NATIVE_CPU) {
            throw new UnsupportedOperationException(
                    "ND4J's backend is " + backend + ", but must be NATIVE_CPU: arrays of others are not served");
        }
    }

    /**
     * Returns the element type of an array.
     *
     * @throws IllegalArgumentException unless it is DOUBLE, FLOAT, BFLOAT16 or HALF
     */
    static DType dtype(String name, INDArray array) {
        return switch (array.dataType()) {
            case DOUBLE -> DType.FLOAT64;
            case FLOAT -> DType.FLOAT32;
            case BFLOAT16 -> DType.BFLOAT16;
            case HALF -> DType.FLOAT16;
            default ->
                throw new IllegalArgumentException(
                        name + ".dataType() is " + array.dataType() + ", but must be DOUBLE, FLOAT, BFLOAT16 or HALF");
        };
    }

    static void requireShape(String name, INDArray array, long... shape) {
        check(name, array, shape.length);
        if (!Arrays.equals(array.shape(), shape)) {
            throw new IllegalArgumentException(
                    name + ".shape() is " + Arrays.toString(array.shape()) + ", but must be " + Arrays.toString(shape));
        }
    }

    /** Looked up once, and only when an array has been seen, since it starts ND4J. */
    private static final class Backend {
        static final ExecutionerType TYPE = Nd4j.getExecutioner().type();
    }

    /** Says of an array that its memory is gone in the one way in which a Memory asks for it; it points nowhere. */
    private static final class Owner extends Pointer {
        private final INDArray array;

        Owner(INDArray array) {
            this.array = array;
        }

        @Override
        public boolean isNull() {
            return array.wasClosed() || isLeft(array.data());
        }
    }
}
