package org.flashring.comm.local;

import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.comm.Communicator;
import org.flashring.comm.CommunicatorContract;

/** Ranks that are threads and copy on the host. */
class LocalContractTest extends CommunicatorContract {
    @Override
    protected IntStream worlds() {
        return IntStream.of(1, 2, 3, 5);
    }

    @Override
    protected List<Communicator> group(int world, Duration deadline) {
        return LocalGroup.create(world, deadline);
    }
}
