package org.flashring.internal;

import java.nio.Buffer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.annotation.Cast;
import org.bytedeco.javacpp.annotation.Const;
import org.bytedeco.javacpp.annotation.Name;
import org.bytedeco.javacpp.annotation.NoException;

/**
 * {@code flashring.h} and the {@code flashring_library.h} that it includes, one for one: same names, same order,
 * addresses as {@code long}. The rules are documented there. Here are their functions; JavaCPP makes one library of
 * this class and the structs, since it extends theirs.
 *
 * <p>Structs are made by methods of this class, never by their constructors, so that this class's initialisation, which
 * holds the loader's lock, comes before that of their superclass {@link Pointer}, which unpacks natives too. Where the
 * library cannot be loaded, this class is initialised all the same, and whatever may be called first throws what the
 * loader said, each time.
 */
@NoException
public final class Native extends NativeStructs {
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

    // spotless:off: a line for each function of the C interface
    @Name("flashring_forward_step") public static native int forwardStep(@Const Step step);
    @Name("flashring_delta") public static native int delta(@Const Step step);
    @Name("flashring_backward_step") public static native int backwardStep(@Const Step step);
    @Name("flashring_workspace_bytes") public static native int workspaceBytes(
            @Const Step step, int direction, @Cast("int64_t*") long[] bytes);
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
