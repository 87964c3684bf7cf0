package org.flashring.comm;

/** A peer died, stalled beyond the deadline or disagreed. The communicator is unusable afterwards; make a new one. */
public final class CommunicationException extends RuntimeException {
    /** Makes an exception whose message names rank, operation and cause. */
    public CommunicationException(String message) {
        super(message);
    }

    /** Makes an exception whose message names rank, operation and cause. */
    public CommunicationException(String message, Throwable cause) {
        super(message, cause);
    }
}
