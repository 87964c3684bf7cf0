package org.flashring.comm.local;

import org.flashring.comm.CommunicationException;

/** What ended a group: {@code rank} of it did {@code what}, because of {@code cause} unless null. */
record LocalFailure(String group, int rank, String what, Throwable cause) {
    CommunicationException toException() {
        return new CommunicationException(group + "rank " + rank + " " + what, cause);
    }
}
