package org.flashring.comm.local;

import org.flashring.comm.CommunicationException;

/** What ended a group: {@code rank} did {@code what}, because of {@code cause} unless null. */
record LocalFailure(int rank, String what, Throwable cause) {
    CommunicationException toException() {
        return new CommunicationException("rank " + rank + " " + what, cause);
    }
}
