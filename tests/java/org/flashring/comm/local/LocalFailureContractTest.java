package org.flashring.comm.local;

import java.time.Duration;
import java.util.List;
import org.flashring.comm.Communicator;
import org.flashring.comm.FailureContract;

/** Ranks that are threads and copy on the host. */
class LocalFailureContractTest extends FailureContract {
    @Override
    protected List<Communicator> group(Duration deadline) {
        return LocalGroup.create(WORLD, deadline);
    }

    @Override
    protected Duration shortDeadline() {
        return Duration.ofMillis(250);
    }

    /** A receiver waits for each sender. */
    @Override
    protected String named(String verb) {
        return verb.equals("exchange") || verb.equals("batch") ? "receive for rank 1" : verb;
    }
}
