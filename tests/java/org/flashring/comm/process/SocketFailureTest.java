package org.flashring.comm.process;

import java.time.Duration;
import java.util.List;
import org.flashring.comm.Communicator;
import org.flashring.comm.FailureContract;
import org.junit.jupiter.api.Tag;

/** Ranks as of processes that have sockets alone, as on two hosts. */
@Tag("full")
class SocketFailureTest extends FailureContract {
    @Override
    protected List<Communicator> group(Duration deadline) {
        return ProcessRanks.group(WORLD, deadline, Medium.SOCKETS);
    }

    @Override
    protected Duration shortDeadline() {
        return Duration.ofMillis(250);
    }

    @Override
    protected String named(String verb) {
        return verb.equals("exchange") || verb.equals("batch") ? "receive for rank 1" : verb;
    }

    @Override
    protected boolean causesReachPeers() {
        return false;
    }
}
