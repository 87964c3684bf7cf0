package org.flashring.internal;

import static org.bytedeco.cuda.global.cudart.*;

import java.nio.charset.StandardCharsets;
import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.cudart.cudaDeviceProp;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.SizeTPointer;

/**
 * The few calls of the CUDA runtime that this library makes, with handles and addresses as {@code long}. A call that
 * fails throws {@link IllegalStateException} with CUDA's name for the error, which may belong to earlier, asynchronous
 * work; memory that cannot be had is an {@link OutOfMemoryError}. Use only where
 * {@link org.flashring.device.Cuda#isAvailable()}.
 */
public final class Cudart {
    private Cudart() {}

    /** Returns once the preset is loaded; throws {@link LinkageError} if it cannot be. */
    public static void load() {
        NativeLoader.load(cudart.class);
    }

    /** Makes device {@code ordinal} current for this thread. Returns the one that was. */
    public static int makeCurrent(int ordinal) {
        int[] answer = Handles.answer();
        check(cudaGetDevice(answer), "cudaGetDevice");
        int previous = answer[0];
        if (previous != ordinal) {
            check(cudaSetDevice(ordinal), "cudaSetDevice");
        }
        return previous;
    }

    /** Returns the address of {@code bytes} bytes of the current device's memory. */
    public static long malloc(long bytes) {
        RawPointer memory = Handles.target(0);
        check(cudaMalloc(memory, bytes), "cudaMalloc of " + bytes + " bytes");
        return memory.address();
    }

    public static void free(long address) {
        check(cudaFree(Handles.target(address)), "cudaFree");
    }

    /**
     * Returns the device that alone holds {@code address}; -1 where the host has it, too (its own, pinned and managed
     * memory), or CUDA does not know it. Asks the driver: the runtime would make a context where there is none.
     */
    public static int deviceOf(long address) {
        boolean onDevice =
                attribute(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address, CU_MEMORYTYPE_HOST) == CU_MEMORYTYPE_DEVICE
                        && attribute(CU_POINTER_ATTRIBUTE_IS_MANAGED, address, 0) == 0;
        return onDevice ? attribute(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address, -1) : -1;
    }

    /** Returns what the driver says of an address, or {@code unknown}. */
    private static int attribute(int attribute, long address, int unknown) {
        try (Scratch memory = new Scratch(Long.BYTES)) {
            IntPointer answer = new IntPointer(Handles.target(memory.address()));
            answer.put(0);
            return cuPointerGetAttribute(answer, attribute, address) == CUDA_SUCCESS ? answer.get() : unknown;
        }
    }

    /** Returns the model of device {@code ordinal}. */
    public static String name(int ordinal) {
        try (Scratch memory = new Scratch(new cudaDeviceProp((Pointer) null).sizeof())) {
            cudaDeviceProp properties = new cudaDeviceProp(Handles.target(memory.address()));
            check(cudaGetDeviceProperties(properties, ordinal), "cudaGetDeviceProperties");
            return properties.name().getString();
        }
    }

    /** Returns the current device's free and total bytes. */
    public static long[] memoryInfo() {
        try (Scratch memory = new Scratch(2 * Long.BYTES)) {
            SizeTPointer free = new SizeTPointer(Handles.target(memory.address()));
            SizeTPointer total = new SizeTPointer(Handles.target(memory.address() + Long.BYTES));
            check(cudaMemGetInfo(free, total), "cudaMemGetInfo");
            return new long[] {free.get(), total.get()};
        }
    }

    /**
     * Copies between any two of host and devices, in the order of {@code stream}. Pageable host memory may make the
     * caller wait.
     */
    public static void copy(Pointer to, Pointer from, long bytes, long stream) {
        check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, Handles.stream(stream)), "cudaMemcpyAsync");
    }

    /** As {@link #copy(Pointer, Pointer, long, long)}, by address. */
    public static void copy(long to, long from, long bytes, long stream) {
        copy(Handles.target(to), Handles.source(from), bytes, stream);
    }

    /** Sets every byte to the low byte of {@code value}, in the order of {@code stream}. */
    public static void fill(long address, int value, long bytes, long stream) {
        check(cudaMemsetAsync(Handles.target(address), value, bytes, Handles.stream(stream)), "cudaMemsetAsync");
    }

    /**
     * Returns a stream of the current device that does not wait for the default stream; of the highest priority if
     * {@code urgent}.
     */
    public static long createStream(boolean urgent) {
        int[] lowest = new int[1];
        int[] highest = new int[1];
        check(cudaDeviceGetStreamPriorityRange(lowest, highest), "cudaDeviceGetStreamPriorityRange");
        CUstream_st stream = new CUstream_st();
        check(
                cudaStreamCreateWithPriority(stream, cudaStreamNonBlocking, urgent ? highest[0] : lowest[0]),
                "cudaStreamCreateWithPriority");
        return stream.address();
    }

    public static void destroyStream(long stream) {
        check(cudaStreamDestroy(Handles.stream(stream)), "cudaStreamDestroy");
    }

    /** Waits for all that the current device has been told, as a free does. */
    public static void synchronizeDevice() {
        check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    }

    public static void synchronizeStream(long stream) {
        check(cudaStreamSynchronize(Handles.stream(stream)), "cudaStreamSynchronize");
    }

    /** Returns whether all work of {@code stream} is done. */
    public static boolean isIdle(long stream) {
        return isReached(cudaStreamQuery(Handles.stream(stream)), "cudaStreamQuery");
    }

    private static boolean isReached(int status, String call) {
        if (status == cudaErrorNotReady) {
            cudaGetLastError(); // not an error: forget it
            return false;
        }
        check(status, call);
        return true;
    }

    /** Returns whether work given to {@code stream} goes into a CUDA graph; never of the default stream, 0. */
    public static boolean isCapturing(long stream) {
        int[] answer = Handles.answer();
        answer[0] = cudaStreamCaptureStatusNone;
        if (stream != 0) {
            check(cudaStreamIsCapturing(Handles.stream(stream), answer), "cudaStreamIsCapturing");
        }
        return answer[0] != cudaStreamCaptureStatusNone;
    }

    /** Makes later work of {@code stream} wait for what {@code event} has recorded last. */
    public static void waitEvent(long stream, long event) {
        check(cudaStreamWaitEvent(Handles.stream(stream), Handles.event(event), 0), "cudaStreamWaitEvent");
    }

    /** Returns an event of the current device that keeps no time. */
    public static long createEvent() {
        CUevent_st event = new CUevent_st();
        check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
        return event.address();
    }

    /** Returns an event of the current device that notes when it is reached. */
    public static long createTimedEvent() {
        CUevent_st event = new CUevent_st();
        check(cudaEventCreateWithFlags(event, cudaEventDefault), "cudaEventCreateWithFlags");
        return event.address();
    }

    /** Returns the milliseconds from one timed event to another, both of which have been reached. */
    public static float millisBetween(long earlier, long event) {
        float[] millis = new float[1];
        check(
                cudaEventElapsedTime(millis, Handles.earlierEvent(earlier), Handles.event(event)),
                "cudaEventElapsedTime");
        return millis[0];
    }

    public static void destroyEvent(long event) {
        check(cudaEventDestroy(Handles.event(event)), "cudaEventDestroy");
    }

    public static void recordEvent(long event, long stream) {
        check(cudaEventRecord(Handles.event(event), Handles.stream(stream)), "cudaEventRecord");
    }

    /** Returns whether the work before the event's last record is done. */
    public static boolean isDone(long event) {
        return isReached(cudaEventQuery(Handles.event(event)), "cudaEventQuery");
    }

    public static void synchronizeEvent(long event) {
        check(cudaEventSynchronize(Handles.event(event)), "cudaEventSynchronize");
    }

    /** Returns whether device {@code ordinal} can read and write the memory of device {@code peer} directly. */
    public static boolean reaches(int ordinal, int peer) {
        int[] can = new int[1];
        check(cudaDeviceCanAccessPeer(can, ordinal, peer), "cudaDeviceCanAccessPeer");
        return can[0] != 0;
    }

    /**
     * Lets the current device read and write {@code peer}'s memory directly where the machine can; else copies go
     * through the host.
     */
    public static void enablePeer(int ordinal, int peer) {
        if (reaches(ordinal, peer)) {
            int status = cudaDeviceEnablePeerAccess(peer, 0);
            if (status == cudaErrorPeerAccessAlreadyEnabled) {
                cudaGetLastError(); // not an error: forget it
            } else {
                check(status, "cudaDeviceEnablePeerAccess");
            }
        }
    }

    /**
     * Returns where the device sits on its host's bus, such as 0000:3b:00.0: the same device has the same place in all
     * processes.
     */
    public static String busId(int ordinal) {
        byte[] text = new byte[32];
        check(cudaDeviceGetPCIBusId(text, text.length, ordinal), "cudaDeviceGetPCIBusId");
        int length = 0;
        while (text[length] != 0) {
            length++;
        }
        return new String(text, 0, length, StandardCharsets.US_ASCII);
    }

    static void check(int status, String call) {
        if (status == cudaSuccess) {
            return;
        }
        String message = call + " failed with " + cudaGetErrorName(status).getString() + ": "
                + cudaGetErrorString(status).getString();
        if (status == cudaErrorMemoryAllocation) {
            cudaGetLastError(); // the device stays usable
            throw new OutOfMemoryError(message);
        }
        throw new IllegalStateException(message);
    }
}
