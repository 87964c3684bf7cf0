package org.flashring.comm.process;

import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.comm.Communicator;
import org.flashring.comm.CommunicatorContract;

/** Ranks as of processes on one host, which share memory. */
class SharedMemoryContractTest extends CommunicatorContract {
    @Override
    protected IntStream worlds() {
        return IntStream.of(1, 2, 3, 5);
    }

    @Override
    protected List<Communicator> group(int world, Duration deadline) {
        return ProcessRanks.group(world, deadline, Medium.AUTO);
    }
}
