package org.flashring.comm.process;

import java.time.Duration;
import java.util.List;
import org.flashring.comm.Communicator;
import org.flashring.comm.FailureContract;

/** Ranks as of processes on one host, which share memory. */
class SharedMemoryFailureTest extends FailureContract {
    @Override
    protected List<Communicator> group(Duration deadline) {
        return ProcessRanks.group(WORLD, deadline, Medium.AUTO);
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
