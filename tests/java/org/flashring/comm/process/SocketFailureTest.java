package org.flashring.comm.process;

import java.time.Duration;
import java.util.List;
import org.flashring.comm.Communicator;
import org.junit.jupiter.api.Tag;

/** Ranks as of processes that have sockets alone, as on two hosts; they fail in the same words. */
@Tag("full")
class SocketFailureTest extends SharedMemoryFailureTest {
    @Override
    protected List<Communicator> group(Duration deadline) {
        return ProcessRanks.group(WORLD, deadline, Medium.SOCKETS);
    }
}
