package org.flashring.device;

import org.flashring.internal.Checks;
import org.flashring.internal.Cudart;

/**
 * A CUDA stream: work in it runs in order, beside that of other streams. Closing twice is harmless; use after close
 * throws.
 */
public final class Stream implements AutoCloseable {
    private final Device device;
    private final boolean owned;
    private long handle;
    private boolean closed;

    private Stream(Device device, long handle, boolean owned) {
        this.device = device;
        this.handle = handle;
        this.owned = owned;
    }

    /**
     * Returns a new stream that does not wait for the default stream.
     *
     * @throws UnsupportedOperationException if there is no CUDA
     * @throws IllegalArgumentException unless {@code device} is a CUDA device of this process
     */
    public static Stream create(Device device) {
        return create(device, false);
    }

    /**
     * Returns a new stream as {@link #create} does, whose kernels go first where others have not all begun: for
     * communication.
     */
    public static Stream createUrgent(Device device) {
        return create(device, true);
    }

    private static Stream create(Device device, boolean urgent) {
        int previous = CurrentDevice.enter(Cuda.requireCuda("device", device));
        try {
            return new Stream(device, Cudart.createStream(urgent), true);
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    /** Returns a view of somebody else's {@code cudaStream_t}, which stays theirs; 0 is the default stream. */
    public static Stream wrap(Device device, long handle) {
        return new Stream(Cuda.requireCuda("device", device), Checks.atLeast("handle", handle, 0), false);
    }

    /** Returns the device that the stream belongs to. */
    public Device device() {
        return device;
    }

    /** Returns the {@code cudaStream_t}. */
    public long handle() {
        if (closed) {
            throw new IllegalStateException("the stream on " + device + " is closed");
        }
        return handle;
    }

    /** Makes later work of this stream wait for what {@code event} has recorded; the host does not wait. */
    public void await(Event event) {
        int previous = CurrentDevice.enter(device); // whose default stream 0 stands for
        try {
            Cudart.waitEvent(handle(), event.handle());
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    /**
     * Waits on the host until all work of this stream is done. Where the work includes a communicator's, use
     * {@link org.flashring.comm.Communicator#synchronize()}, which knows a deadline.
     */
    public void synchronize() {
        int previous = CurrentDevice.enter(device);
        try {
            Cudart.synchronizeStream(handle());
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            if (owned) {
                Cudart.destroyStream(handle);
            }
        }
    }
}
