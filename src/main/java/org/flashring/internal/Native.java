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
 * <p>Structs are made by methods of this class, never by their constructors, so that this class's initialisation, which
 * holds the loader's lock, comes before that of their superclass {@link Pointer}, which unpacks natives too. Where the
 * library cannot be loaded, this class is initialised all the same, and whatever may be called first throws what the
 * loader said, each time.
 */
@Properties(
        inherit = org.bytedeco.javacpp.presets.javacpp.class,
        value = @Platform(value = "linux-x86_64", compiler = "cpp17", include = "flashring.h", link = "flashring"))
@NoException
public final class Native {
    /** Names the highest kernel that may be chosen, as the variable FLASHRING_MAX_KERNEL does, and goes before it. */
    private static final String MAX_KERNEL = "org.flashring.maxKernel";

    static {
        NativeLoader.load(Native::prepare);
    }

    private Native() {}

    /**
     * Hands over what the JVM knows of processors (affinity, quotas and {@code -XX:ActiveProcessorCount}), and the
     * highest kernel where a property names one: whatever chooses a kernel refuses a name that none has.
     */
    private static void prepare() {
        defaultThreads(Math.min(Runtime.getRuntime().availableProcessors(), MOST_THREADS));
        String kernel = System.getProperty(MAX_KERNEL);
        if (kernel != null) {
            setMaxKernel(kernel, MAX_KERNEL);
        }
    }

    /** Returns a step with every field zero but its size. */
    public static Step newStep() {
        NativeLoader.requireLoaded();
        return new Step();
    }

    /** Returns arguments with every field zero but their size. */
    public static Combine newCombine() {
        NativeLoader.requireLoaded();
        return new Combine();
    }

    /** Returns arguments with every field zero but their size. */
    public static Merge newMerge() {
        NativeLoader.requireLoaded();
        return new Merge();
    }

    /** Returns arguments with every field zero but their size. */
    public static Append newAppend() {
        NativeLoader.requireLoaded();
        return new Append();
    }

    /** Returns a row with every field zero but its size. */
    public static CapabilityRow newCapabilityRow() {
        NativeLoader.requireLoaded();
        return new CapabilityRow();
    }

    /** Returns the address of a direct buffer's first element, whatever its position. */
    public static long address(Buffer buffer) {
        NativeLoader.requireLoaded();
        try (Pointer pointer = new Pointer(buffer)) {
            return pointer.address();
        }
    }

    /** {@code flashring_version}. */
    public static String version() {
        NativeLoader.requireLoaded();
        return versionUnchecked();
    }

    /** {@code flashring_device_count}. */
    public static int deviceCount() {
        NativeLoader.requireLoaded();
        return deviceCountUnchecked();
    }

    /** {@code flashring_threads}. */
    public static int threads() {
        NativeLoader.requireLoaded();
        return threadsUnchecked();
    }

    /** {@code flashring_set_threads}. */
    public static int setThreads(int threads) {
        NativeLoader.requireLoaded();
        return setThreadsUnchecked(threads);
    }

    /** {@code flashring_call_count}. */
    public static long callCount() {
        NativeLoader.requireLoaded();
        return callCountUnchecked();
    }

    /** {@code flashring_dtype_count}. */
    public static int dtypeCount() {
        NativeLoader.requireLoaded();
        return dtypeCountUnchecked();
    }

    /** {@code flashring_capability_count}. */
    public static int capabilityCount() {
        NativeLoader.requireLoaded();
        return capabilityCountUnchecked();
    }

    /** {@code flashring_host_allocate}. */
    public static long hostAllocate(long bytes) {
        NativeLoader.requireLoaded();
        return hostAllocateUnchecked(bytes);
    }

    private static final int MOST_THREADS = 1024; // that the library takes

    public static final int OK = 0;
    public static final int INVALID_ARGUMENT = 1;
    public static final int UNSUPPORTED = 2;
    public static final int OUT_OF_MEMORY = 3;

    public static final int HOST = -1;

    public static final int RESUME = 1;
    public static final int FINISH = 2;
    public static final int ADD_DQ = 4;
    public static final int ADD_DKV = 8;
    public static final int ADD_DSINKS = 16;

    public static final int SOFTCAP = 1;
    public static final int SINKS = 2;
    public static final int ALIBI = 4;

    public static final int FORWARD = 0;
    public static final int BACKWARD = 1;

    // spotless:off: a line for each field and function of the C interface
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
    public static final class Step extends Struct {
        private Step() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

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
        public native double softcap();
        public native Step softcap(double softcap);
        @MemberGetter public native @Cast("const void*") long sinks();
        @MemberSetter public native Step sinks(@Cast("const void*") long address);
        @MemberGetter @Name("alibi_slopes") public native @Cast("const void*") long alibiSlopes();
        @MemberSetter @Name("alibi_slopes") public native Step alibiSlopes(@Cast("const void*") long address);
        public native @Cast("void*") long dsinks();
        public native Step dsinks(@Cast("void*") long address);
        @MemberGetter @Name("kv_lengths") public native @Cast("const int32_t*") long keyLengths();
        @MemberSetter @Name("kv_lengths") public native Step keyLengths(@Cast("const int32_t*") long address);
        @MemberGetter @Name("kv_begins") public native @Cast("const int32_t*") long keyBegins();
        @MemberSetter @Name("kv_begins") public native Step keyBegins(@Cast("const int32_t*") long address);
        @MemberGetter @Name("q_lengths") public native @Cast("const int32_t*") long queryLengths();
        @MemberSetter @Name("q_lengths") public native Step queryLengths(@Cast("const int32_t*") long address);
        @MemberGetter @Name("page_table") public native @Cast("const int32_t*") long pageTable();
        @MemberSetter @Name("page_table") public native Step pageTable(@Cast("const int32_t*") long address);
        @MemberGetter @Name("k_pages") public native @Cast("const void* const*") long keyPages();
        @MemberSetter @Name("k_pages") public native Step keyPages(@Cast("const void* const*") long address);
        @MemberGetter @Name("v_pages") public native @Cast("const void* const*") long valuePages();
        @MemberSetter @Name("v_pages") public native Step valuePages(@Cast("const void* const*") long address);
        @Name("page_size") public native long pageSize();
        @Name("page_size") public native Step pageSize(long tokens);
        public native long pages();
        public native Step pages(long count);
        @Name("page_table_stride") public native long pageTableStride();
        @Name("page_table_stride") public native Step pageTableStride(long entries);
        public native long shard();
        public native Step shard(long number);
        public native long shards();
        public native Step shards(long count);
    }

    /** {@code flashring_combine_args}. */
    @Name("flashring_combine_args")
    @NoException
    public static final class Combine extends Struct {
        private Combine() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

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

    /** {@code flashring_append_args}. */
    @Name("flashring_append_args")
    @NoException
    public static final class Append extends Struct {
        private Append() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

        public native @Cast("uint32_t") int size();
        public native Append size(@Cast("uint32_t") int bytes);
        public native int device();
        public native Append device(int device);
        public native int dtype();
        public native Append dtype(int dtype);
        public native long batch();
        public native Append batch(long batch);
        @Name("new_len") public native long newLength();
        @Name("new_len") public native Append newLength(long tokens);
        @Name("kv_len") public native long keyLength();
        @Name("kv_len") public native Append keyLength(long tokens);
        @Name("kv_heads") public native long kvHeads();
        @Name("kv_heads") public native Append kvHeads(long heads);
        @Name("head_dim") public native long headDim();
        @Name("head_dim") public native Append headDim(long dim);
        @Name("value_dim") public native long valueDim();
        @Name("value_dim") public native Append valueDim(long dim);
        @MemberGetter @Name("new_k") public native @ByRef TensorView newKeys();
        @MemberGetter @Name("new_v") public native @ByRef TensorView newValues();
        @MemberGetter public native @ByRef TensorView k();
        @MemberGetter public native @ByRef TensorView v();
        @MemberGetter @Name("kv_lengths") public native @Cast("const int32_t*") long keyLengths();
        @MemberSetter @Name("kv_lengths") public native Append keyLengths(@Cast("const int32_t*") long address);
        @MemberGetter @Name("new_lengths") public native @Cast("const int32_t*") long newLengths();
        @MemberSetter @Name("new_lengths") public native Append newLengths(@Cast("const int32_t*") long address);
        @MemberGetter @Name("lengths_after") public native @Cast("int32_t*") long lengthsAfter();
        @MemberSetter @Name("lengths_after") public native Append lengthsAfter(@Cast("int32_t*") long address);
        @MemberGetter @Name("page_table") public native @Cast("const int32_t*") long pageTable();
        @MemberSetter @Name("page_table") public native Append pageTable(@Cast("const int32_t*") long address);
        @MemberGetter @Name("k_pages") public native @Cast("void* const*") long keyPages();
        @MemberSetter @Name("k_pages") public native Append keyPages(@Cast("void* const*") long address);
        @MemberGetter @Name("v_pages") public native @Cast("void* const*") long valuePages();
        @MemberSetter @Name("v_pages") public native Append valuePages(@Cast("void* const*") long address);
        @Name("page_size") public native long pageSize();
        @Name("page_size") public native Append pageSize(long tokens);
        public native long pages();
        public native Append pages(long count);
        @Name("page_table_stride") public native long pageTableStride();
        @Name("page_table_stride") public native Append pageTableStride(long entries);
        public native @Cast("void*") long stream();
        public native Append stream(@Cast("void*") long stream);
        public native long shard();
        public native Append shard(long number);
        public native long shards();
        public native Append shards(long count);
    }

    /** {@code flashring_merge_args}. */
    @Name("flashring_merge_args")
    @NoException
    public static final class Merge extends Struct {
        private Merge() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

        public native @Cast("uint32_t") int size();
        public native Merge size(@Cast("uint32_t") int bytes);
        public native int device();
        public native Merge device(int device);
        public native int dtype();
        public native Merge dtype(int dtype);
        public native long states();
        public native Merge states(long count);
        @Name("state_stride") public native long stateStride();
        @Name("state_stride") public native Merge stateStride(long elements);
        public native long batch();
        public native Merge batch(long batch);
        public native long length();
        public native Merge length(long tokens);
        public native long heads();
        public native Merge heads(long heads);
        public native long dim();
        public native Merge dim(long dim);
        @MemberGetter public native @ByRef TensorView acc();
        @MemberGetter @Name("state_lse") public native @ByRef TensorView stateLse();
        @MemberGetter public native @ByRef TensorView out();
        @MemberGetter public native @ByRef TensorView lse();
        public native @Cast("void*") long stream();
        public native Merge stream(@Cast("void*") long stream);
    }

    /** {@code flashring_capability}. */
    @Name("flashring_capability")
    @NoException
    public static final class CapabilityRow extends Struct {
        private CapabilityRow() {
            size(own());
        }

        private native void allocate(); // never called: JavaCPP keeps the sizes of structs that declare it

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
        @MemberGetter public native int scores();
    }

    @Name("flashring_forward_step") public static native int forwardStep(@Const Step step);
    @Name("flashring_delta") public static native int delta(@Const Step step);
    @Name("flashring_backward_step") public static native int backwardStep(@Const Step step);
    @Name("flashring_workspace_bytes") public static native int workspaceBytes(@Const Step step, int direction, @Cast("int64_t*") long[] bytes);
    @Name("flashring_combine") public static native int combine(@Const Combine args);
    @Name("flashring_merge") public static native int merge(@Const Merge args);
    @Name("flashring_append") public static native int append(@Const Append args);
    @Name("flashring_dtype_count") private static native int dtypeCountUnchecked();
    @Name("flashring_dtype_name") public static native @Cast("const char*") String dtypeName(int dtype);
    @Name("flashring_dtype_bytes") public static native int dtypeBytes(int dtype);
    @Name("flashring_dtype_accumulator") public static native int dtypeAccumulator(int dtype);
    @Name("flashring_capability_count") private static native int capabilityCountUnchecked();
    @Name("flashring_capability_get") public static native int capabilityGet(int row, CapabilityRow capability);
    @Name("flashring_capability_cause") public static native @Cast("const char*") String capabilityCause(int row);
    @Name("flashring_set_max_kernel") public static native int setMaxKernel(String name, String origin);
    @Name("flashring_max_kernel") public static native @Cast("const char*") String maxKernel();
    @Name("flashring_max_kernel_origin") public static native @Cast("const char*") String maxKernelOrigin();
    @Name("flashring_select") public static native int select(@Const Step step, int direction, int[] row);
    @Name("flashring_last_error") public static native @Cast("const char*") String lastError();
    @Name("flashring_version") private static native @Cast("const char*") String versionUnchecked();
    @Name("flashring_device_count") private static native int deviceCountUnchecked();
    @Name("flashring_device_cause") public static native @Cast("const char*") String deviceCause();
    @Name("flashring_device_tiles") public static native int deviceTiles(int device);
    @Name("flashring_threads") private static native int threadsUnchecked();
    @Name("flashring_default_threads") private static native int defaultThreads(int threads);
    @Name("flashring_set_threads") private static native int setThreadsUnchecked(int threads);
    @Name("flashring_call_count") private static native long callCountUnchecked();
    @Name("flashring_range_begin") public static native void rangeBegin(int direction, int number);
    @Name("flashring_range_end") public static native void rangeEnd();
    @Name("flashring_host_allocate") private static native @Cast("void*") long hostAllocateUnchecked(long bytes);
    @Name("flashring_host_free") public static native void hostFree(@Cast("void*") long memory);
    // spotless:on
}
