package org.flashring.internal;

import java.nio.Buffer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.annotation.ByRef;
import org.bytedeco.javacpp.annotation.Cast;
import org.bytedeco.javacpp.annotation.Const;
import org.bytedeco.javacpp.annotation.MemberGetter;
import org.bytedeco.javacpp.annotation.MemberSetter;
import org.bytedeco.javacpp.annotation.Name;
import org.bytedeco.javacpp.annotation.NoException;
import org.bytedeco.javacpp.annotation.Platform;
import org.bytedeco.javacpp.annotation.Properties;

/**
 * {@code flashring.h}, one for one: same names, same order, addresses as {@code long}. The rules are documented there.
 *
 * <p>Structs are made by methods of this class, never by their constructors, so that this class's initialisation, which holds
 * the loader's lock, comes before that of their superclass {@link Pointer}, which unpacks natives too.
 */
@Properties(
        inherit = org.bytedeco.javacpp.presets.javacpp.class,
        value = @Platform(value = "linux-x86_64", compiler = "cpp17", include = "flashring.h", link = "flashring"))
@NoException
public final class Native {
    static {
        NativeLoader.load();
    }

    private Native() {}

    /** Returns a step with every field zero but its size. */
    public static Step newStep() {
        return new Step();
    }

    /** Returns arguments with every field zero but their size. */
    public static Combine newCombine() {
        return new Combine();
    }

    /** Returns a row with every field zero but its size. */
    public static CapabilityRow newCapabilityRow() {
        return new CapabilityRow();
    }

    /** Returns the address of a direct buffer's first element, whatever its position. */
    public static long address(Buffer buffer) {
        try (Pointer pointer = new Pointer(buffer)) {
            return pointer.address();
        }
    }

    public static final int OK = 0;
    public static final int INVALID_ARGUMENT = 1;
    public static final int UNSUPPORTED = 2;
    public static final int OUT_OF_MEMORY = 3;

    public static final int HOST = -1;

    public static final int RESUME = 1;
    public static final int FINISH = 2;
    public static final int ADD_DQ = 4;
    public static final int ADD_DKV = 8;

    public static final int FORWARD = 0;
    public static final int BACKWARD = 1;

    /** {@code flashring_tensor}. */
    @Name("flashring_tensor")
    @NoException
    public static final class TensorView extends Pointer {
        public TensorView(Pointer p) {
            super(p);
        }

        public native @Cast("void*") long data();
        public native TensorView data(@Cast("void*") long address);
        @Name("stride_batch") public native long strideBatch();
        @Name("stride_batch") public native TensorView strideBatch(long elements);
        @Name("stride_seq") public native long strideSeq();
        @Name("stride_seq") public native TensorView strideSeq(long elements);
        @Name("stride_head") public native long strideHead();
        @Name("stride_head") public native TensorView strideHead(long elements);
    }

    /** {@code flashring_positions}. */
    @Name("flashring_positions")
    @NoException
    public static final class PositionList extends Pointer {
        public PositionList(Pointer p) {
            super(p);
        }

        @MemberGetter public native @Cast("const flashring_range*") long ranges();
        @MemberSetter public native PositionList ranges(@Cast("const flashring_range*") long address);
        public native long count();
        public native PositionList count(long ranges);
    }

    /** {@code flashring_mask}. */
    @Name("flashring_mask")
    @NoException
    public static final class MaskView extends Pointer {
        public MaskView(Pointer p) {
            super(p);
        }

        public native long left();
        public native MaskView left(long keys);
        public native long right();
        public native MaskView right(long keys);
        @MemberGetter @Name("cu_seqlens") public native @Cast("const int64_t*") long cuSeqlens();
        @MemberSetter @Name("cu_seqlens") public native MaskView cuSeqlens(@Cast("const int64_t*") long address);
        public native long documents();
        public native MaskView documents(long count);
        @MemberGetter @Name("prefix_lengths") public native @Cast("const int64_t*") long prefixLengths();
        @MemberSetter @Name("prefix_lengths") public native MaskView prefixLengths(@Cast("const int64_t*") long address);
    }

    /** {@code flashring_step}. */
    @Name("flashring_step")
    @NoException
    public static final class Step extends Pointer {
        private Step() {
            allocate();
            Pointer.memset(this, 0, sizeof());
            size(sizeof());
        }

        private native void allocate();

        public native @Cast("uint32_t") int size();
        public native Step size(@Cast("uint32_t") int bytes);
        public native int device();
        public native Step device(int device);
        public native int dtype();
        public native Step dtype(int dtype);
        public native int kernel();
        public native Step kernel(int kernel);
        public native int flags();
        public native Step flags(int flags);
        public native int deterministic();
        public native Step deterministic(int deterministic);
        public native long batch();
        public native Step batch(long batch);
        @Name("q_len") public native long queryLength();
        @Name("q_len") public native Step queryLength(long tokens);
        @Name("kv_len") public native long keyLength();
        @Name("kv_len") public native Step keyLength(long tokens);
        @Name("q_heads") public native long queryHeads();
        @Name("q_heads") public native Step queryHeads(long heads);
        @Name("kv_heads") public native long kvHeads();
        @Name("kv_heads") public native Step kvHeads(long heads);
        @Name("head_dim") public native long headDim();
        @Name("head_dim") public native Step headDim(long dim);
        @Name("value_dim") public native long valueDim();
        @Name("value_dim") public native Step valueDim(long dim);
        @Name("softmax_scale") public native double softmaxScale();
        @Name("softmax_scale") public native Step softmaxScale(double scale);
        @MemberGetter @Name("q_positions") public native @ByRef PositionList queryPositions();
        @MemberGetter @Name("kv_positions") public native @ByRef PositionList keyPositions();
        @MemberGetter public native @ByRef MaskView mask();
        public native @Cast("void*") long workspace();
        public native Step workspace(@Cast("void*") long address);
        @Name("workspace_bytes") public native long workspaceBytes();
        @Name("workspace_bytes") public native Step workspaceBytes(long bytes);
        public native @Cast("void*") long stream();
        public native Step stream(@Cast("void*") long stream);
        @MemberGetter public native @ByRef TensorView q();
        @MemberGetter public native @ByRef TensorView k();
        @MemberGetter public native @ByRef TensorView v();
        @MemberGetter public native @ByRef TensorView out();
        @MemberGetter public native @ByRef TensorView acc();
        @MemberGetter public native @ByRef TensorView lse();
        @MemberGetter public native @ByRef TensorView dout();
        @MemberGetter public native @ByRef TensorView delta();
        @MemberGetter public native @ByRef TensorView dq();
        @MemberGetter public native @ByRef TensorView dk();
        @MemberGetter public native @ByRef TensorView dv();
        @MemberGetter @Name("lse_low") public native @ByRef TensorView lseLow();
    }

    /** {@code flashring_combine_args}. */
    @Name("flashring_combine_args")
    @NoException
    public static final class Combine extends Pointer {
        private Combine() {
            allocate();
            Pointer.memset(this, 0, sizeof());
            size(sizeof());
        }

        private native void allocate();

        public native @Cast("uint32_t") int size();
        public native Combine size(@Cast("uint32_t") int bytes);
        public native int device();
        public native Combine device(int device);
        @Name("dst_dtype") public native int dstDType();
        @Name("dst_dtype") public native Combine dstDType(int dtype);
        @Name("a_dtype") public native int aDType();
        @Name("a_dtype") public native Combine aDType(int dtype);
        @Name("b_dtype") public native int bDType();
        @Name("b_dtype") public native Combine bDType(int dtype);
        public native long batch();
        public native Combine batch(long batch);
        public native long length();
        public native Combine length(long tokens);
        public native long heads();
        public native Combine heads(long heads);
        public native long dim();
        public native Combine dim(long dim);
        @MemberGetter public native @ByRef TensorView dst();
        @MemberGetter public native @ByRef TensorView a();
        @MemberGetter public native @ByRef TensorView b();
        public native @Cast("void*") long stream();
        public native Combine stream(@Cast("void*") long stream);
    }

    /** {@code flashring_capability}. */
    @Name("flashring_capability")
    @NoException
    public static final class CapabilityRow extends Pointer {
        private CapabilityRow() {
            allocate();
            Pointer.memset(this, 0, sizeof());
            size(sizeof());
        }

        private native void allocate();

        @MemberGetter public native @Cast("uint32_t") int size();
        @MemberSetter public native CapabilityRow size(@Cast("uint32_t") int bytes);
        @MemberGetter public native int kernel();
        @MemberGetter public native int cuda();
        @MemberGetter public native int dtype();
        @MemberGetter @Name("max_head_dim") public native int maxHeadDim();
        @MemberGetter @Name("max_value_dim") public native int maxValueDim();
        @MemberGetter public native int forward();
        @MemberGetter public native int backward();
        @MemberGetter @Name("unequal_dims") public native int unequalDims();
        @MemberGetter public native int available();
        @MemberGetter public native @Cast("const char*") String name();
        @MemberGetter public native @Cast("const char*") String requirement();
    }

    @Name("flashring_forward_step") public static native int forwardStep(@Const Step step);
    @Name("flashring_delta") public static native int delta(@Const Step step);
    @Name("flashring_backward_step") public static native int backwardStep(@Const Step step);
    @Name("flashring_workspace_bytes") public static native int workspaceBytes(@Const Step step, int direction, @Cast("int64_t*") long[] bytes);
    @Name("flashring_combine") public static native int combine(@Const Combine args);
    @Name("flashring_capability_count") public static native int capabilityCount();
    @Name("flashring_capability_get") public static native int capabilityGet(int row, CapabilityRow capability);
    @Name("flashring_select") public static native int select(@Const Step step, int direction, int[] row);
    @Name("flashring_last_error") public static native @Cast("const char*") String lastError();
    @Name("flashring_version") public static native @Cast("const char*") String version();
    @Name("flashring_device_count") public static native int deviceCount();
    @Name("flashring_device_cause") public static native @Cast("const char*") String deviceCause();
    @Name("flashring_device_tiles") public static native int deviceTiles(int device);
    @Name("flashring_threads") public static native int threads();
    @Name("flashring_set_threads") public static native int setThreads(int threads);
    @Name("flashring_call_count") public static native long callCount();
    @Name("flashring_range_begin") public static native void rangeBegin(int direction, int number);
    @Name("flashring_range_end") public static native void rangeEnd();
    @Name("flashring_host_allocate") public static native @Cast("void*") long hostAllocate(long bytes);
    @Name("flashring_host_free") public static native void hostFree(@Cast("void*") long memory);
}
