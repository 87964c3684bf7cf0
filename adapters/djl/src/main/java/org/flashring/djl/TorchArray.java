package org.flashring.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.types.SparseFormat;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.LibUtils;
import java.nio.file.Path;
import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.internal.LibTorch;

/** What libtorch says of one tensor, which DJL does not hand on: its address, strides and device. */
final class TorchArray {
    private static final int FLOAT16 = 5;
    private static final int FLOAT32 = 6;
    private static final int FLOAT64 = 7;
    private static final int BFLOAT16 = 15;
    private static final DType[] TYPES = new DType[16]; // by libtorch's numbers

    static {
        TYPES[FLOAT16] = DType.FLOAT16;
        TYPES[FLOAT32] = DType.FLOAT32;
        TYPES[FLOAT64] = DType.FLOAT64;
        TYPES[BFLOAT16] = DType.BFLOAT16;
    }

    private final String name;
    private final long handle;
    private final long[] facts = new long[LibTorch.FACTS];

    private TorchArray(String name, long handle) {
        this.name = name;
        this.handle = handle;
        LibTorch.describe(handle, facts);
    }

    /** Asked only with an array of the engine at hand: until DJL has loaded its libtorch it has no path. */
    private static final class Missing {
        static final String NAME = open();

        private static String open() {
            Path folder = Path.of(LibUtils.getLibtorchPath());
            return LibTorch.open(
                    folder.resolve("libtorch_cpu.so").toString(),
                    folder.resolve("libtorch_cuda.so").toString());
        }
    }

    /**
     * Returns what libtorch says of an array.
     *
     * @param name what a failure calls the array
     * @throws IllegalArgumentException if it is null, closed or of another engine, or holds no floats
     * @throws UnsupportedOperationException if this libtorch lacks what is asked of it
     */
    static TorchArray of(String name, NDArray array) {
        if (array == null) {
            throw new IllegalArgumentException(name + " is null");
        }
        if (!(array instanceof PtNDArray torch)) {
            throw new IllegalArgumentException(name + " is a "
                    + array.getClass().getSimpleName() + ", but must be an array of DJL's PyTorch engine");
        }
        if (torch.isReleased()) {
            throw new IllegalArgumentException(name + " is closed");
        }
        if (torch.getSparseFormat() != SparseFormat.DENSE) {
            throw new IllegalArgumentException(name + " is " + torch.getSparseFormat() + ", but must be dense");
        }
        if (Missing.NAME != null) {
            throw new UnsupportedOperationException("libtorch " + LibUtils.getVersion() + " lacks " + Missing.NAME);
        }
        return of(name, torch.getHandle());
    }

    /** Returns what libtorch says of the tensor with a handle of ours. */
    static TorchArray of(String name, long handle) {
        TorchArray facts = new TorchArray(name, handle);
        int type = facts.type();
        if (type >= TYPES.length || TYPES[type] == null) {
            throw new IllegalArgumentException(
                    name + " holds no FLOAT64, FLOAT32, BFLOAT16 or FLOAT16, the types that attention has");
        }
        return facts;
    }

    String name() {
        return name;
    }

    long handle() {
        return handle;
    }

    long dimensions() {
        return facts[0];
    }

    DType dtype() {
        return TYPES[type()];
    }

    /** Returns the element type by libtorch's number. */
    int type() {
        return (int) facts[1];
    }

    /** Returns the kind of device by libtorch's number. */
    int deviceType() {
        return (int) facts[2];
    }

    int deviceIndex() {
        return (int) facts[3];
    }

    long address() {
        return facts[4];
    }

    long size(int dimension) {
        return facts[5 + dimension];
    }

    long stride(int dimension) {
        return facts[9 + dimension];
    }

    /** Returns whether the tensor requires a gradient, be it a parameter or a result; DJL knows it of the former. */
    boolean requiresGradient() {
        return facts[13] != 0;
    }

    long elements() {
        return facts[14];
    }

    /** Returns whether the elements lie one behind the other, in the order of their indices. */
    boolean contiguous() {
        return facts[15] != 0;
    }

    /**
     * Returns the device that the tensor lies on.
     *
     * @throws IllegalArgumentException unless it is the host or a CUDA device
     */
    Device device() {
        return switch (deviceType()) {
            case LibTorch.CPU -> Device.HOST;
            case LibTorch.CUDA -> Device.cuda(deviceIndex());
            default ->
                throw new IllegalArgumentException(
                        name + " is on neither the host nor a CUDA device, but must be on one of them");
        };
    }

    /** Returns the {@code cudaStream_t} that this thread's work on the tensor's device goes to; 0 for the host. */
    long stream() {
        return deviceType() == LibTorch.CUDA ? LibTorch.currentCudaStream(deviceIndex()) : 0;
    }

    /**
     * Returns the handle of a new tensor of the same shape, type and device: of one dimension, or laid out as
     * {@link #newBhsd} says.
     */
    long newLike() {
        return dimensions() == 1
                ? LibTorch.empty(1, new long[] {size(0)}, new long[] {1}, type(), deviceType(), deviceIndex())
                : newBhsd(size(0), size(1), size(2), size(3));
    }

    /**
     * Returns the handle of a new [batch, heads, length, dim] tensor of the same type and device, whose memory has the
     * order batch, length, heads. Its elements mean nothing yet; the handle is the caller's.
     */
    long newBhsd(long batch, long heads, long length, long dim) {
        return LibTorch.empty(
                4,
                new long[] {batch, heads, length, dim},
                new long[] {length * heads * dim, dim, heads * dim, 1},
                type(),
                deviceType(),
                deviceIndex());
    }

    /** Returns the handle of a new [batch, heads, length] tensor of the type that sums of this one's have. */
    long newLse(long batch, long heads, long length) {
        return LibTorch.empty(
                3,
                new long[] {batch, heads, length},
                new long[] {heads * length, length, 1},
                dtype() == DType.FLOAT64 ? FLOAT64 : FLOAT32,
                deviceType(),
                deviceIndex());
    }
}
