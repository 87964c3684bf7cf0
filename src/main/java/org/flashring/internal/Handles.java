package org.flashring.internal;

import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUstream_st;

/**
 * What the presets want instead of a number: streams, events, addresses and places for answers, one set for each
 * thread, moved to the number at hand for the length of a call. So a call makes no object.
 */
final class Handles {
    private static final ThreadLocal<Handles> OF_THREAD = ThreadLocal.withInitial(Handles::new);

    private final StreamHandle stream = new StreamHandle();
    private final EventHandle event = new EventHandle();
    private final EventHandle earlierEvent = new EventHandle();
    private final RawPointer target = new RawPointer();
    private final RawPointer source = new RawPointer();
    private final int[] answer = new int[1];

    private Handles() {}

    /** Returns a stream; 0 is the default stream. */
    static CUstream_st stream(long handle) {
        return OF_THREAD.get().stream.at(handle);
    }

    static CUevent_st event(long handle) {
        return OF_THREAD.get().event.at(handle);
    }

    /** Returns an event that a call takes beside {@link #event}. */
    static CUevent_st earlierEvent(long handle) {
        return OF_THREAD.get().earlierEvent.at(handle);
    }

    /** Returns the address that a call writes to, or the only one it has. */
    static RawPointer target(long address) {
        return OF_THREAD.get().target.at(address);
    }

    /** Returns the address that a call reads from, beside {@link #target}. */
    static RawPointer source(long address) {
        return OF_THREAD.get().source.at(address);
    }

    /** Returns where a call leaves one number. */
    static int[] answer() {
        return OF_THREAD.get().answer;
    }

    private static final class StreamHandle extends CUstream_st {
        StreamHandle() {
            super(null);
        }

        StreamHandle at(long handle) {
            address = handle;
            return this;
        }
    }

    private static final class EventHandle extends CUevent_st {
        EventHandle() {
            super(null);
        }

        EventHandle at(long handle) {
            address = handle;
            return this;
        }
    }
}
