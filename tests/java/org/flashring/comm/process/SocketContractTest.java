package org.flashring.comm.process;

import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.comm.Communicator;
import org.flashring.comm.CommunicatorContract;

/** Ranks as of processes that have sockets alone, as on two hosts. */
class SocketContractTest extends CommunicatorContract {
    @Override
    protected IntStream worlds() {
        return IntStream.of(2, 4);
    }

    @Override
    protected List<Communicator> group(int world, Duration deadline) {
        return ProcessRanks.group(world, deadline, Medium.SOCKETS);
    }
}
