package org.flashring.internal;

import static org.bytedeco.cuda.global.cudart.*;

import org.bytedeco.cuda.cudart.cudaIpcMemHandle_t;

/**
 * Device memory that processes of one host show each other, and words in it by which their streams wait for each other.
 * Use only where {@link org.flashring.device.Cuda#isAvailable()}, with the device current; errors are those of
 * {@link Cudart}.
 */
public final class CudaIpc {
    /** Bytes of a handle. */
    public static final int HANDLE = 64;

    private CudaIpc() {}

    /** Returns whether streams of device {@code ordinal} can wait for words of memory. */
    public static boolean hasStreamWaits(int ordinal) {
        int[] can = new int[1];
        return cuDeviceGetAttribute(can, CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR, ordinal) == CUDA_SUCCESS
                && can[0] != 0;
    }

    /**
     * Makes device {@code ordinal} and its context this thread's, which the driver's calls want, and which the runtime
     * leaves to its own next call.
     */
    public static void enter(int ordinal) {
        Cudart.check(cudaSetDevice(ordinal), "cudaSetDevice");
        Cudart.check(cudaFree(Handles.target(0)), "cudaFree");
    }

    /**
     * Puts the first address of the allocation that {@code address} lies in at the host address {@code answer}. Returns
     * whether CUDA knows of any.
     */
    public static boolean base(long address, long answer) {
        return cuPointerGetAttribute(Handles.target(answer), CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, address)
                == CUDA_SUCCESS;
    }

    /** Puts the bytes of the allocation that {@code address} lies in at the host address {@code answer}. */
    public static void size(long address, long answer) {
        attribute(CU_POINTER_ATTRIBUTE_RANGE_SIZE, address, answer);
    }

    /** Puts a number that no other allocation of this process has ever had at the host address {@code answer}. */
    public static void number(long address, long answer) {
        attribute(CU_POINTER_ATTRIBUTE_BUFFER_ID, address, answer);
    }

    private static void attribute(int attribute, long address, long answer) {
        check(cuPointerGetAttribute(Handles.target(answer), attribute, address), "cuPointerGetAttribute");
    }

    /**
     * Puts the handle of the allocation that begins at {@code base} at the host address {@code handle}. Returns whether
     * there is one: memory of pools and of virtual memory management has none.
     */
    public static boolean export(long base, long handle) {
        boolean done = cudaIpcGetMemHandle(new cudaIpcMemHandle_t(Handles.target(handle)), Handles.source(base))
                == cudaSuccess;
        if (!done) {
            cudaGetLastError(); // told by what is returned: forget it
        }
        return done;
    }

    /**
     * Returns where the allocation of the handle at the host address {@code handle} lies in this process from now on.
     */
    public static long open(long handle) {
        RawPointer memory = Handles.target(0);
        Cudart.check(
                cudaIpcOpenMemHandle(
                        memory, new cudaIpcMemHandle_t(Handles.source(handle)), cudaIpcMemLazyEnablePeerAccess),
                "cudaIpcOpenMemHandle");
        return memory.address();
    }

    /** Ends what {@link #open} has begun. */
    public static void close(long memory) {
        Cudart.check(cudaIpcCloseMemHandle(Handles.target(memory)), "cudaIpcCloseMemHandle");
    }

    /** Makes later work of {@code stream} wait until the 32-bit word at {@code address} is {@code value} or beyond. */
    public static void await(long stream, long address, int value) {
        check(
                cuStreamWaitValue32(Handles.stream(stream), address, value, CU_STREAM_WAIT_VALUE_GEQ),
                "cuStreamWaitValue32");
    }

    /** Writes a 32-bit word once all work of {@code stream} before this is done and can be seen. */
    public static void write(long stream, long address, int value) {
        check(
                cuStreamWriteValue32(Handles.stream(stream), address, value, CU_STREAM_WRITE_VALUE_DEFAULT),
                "cuStreamWriteValue32");
    }

    private static void check(int result, String call) {
        if (result != CUDA_SUCCESS) {
            throw new IllegalStateException(call + " failed with the driver's error " + result);
        }
    }
}
