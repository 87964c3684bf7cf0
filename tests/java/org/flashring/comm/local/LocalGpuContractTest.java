package org.flashring.comm.local;

import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.comm.Communicator;
import org.flashring.comm.CommunicatorContract;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.support.RequiresGpu;

/** Ranks that are threads and copy on one GPU, or between those that there are. */
@RequiresGpu
class LocalGpuContractTest extends CommunicatorContract {
    @Override
    protected IntStream worlds() {
        return IntStream.of(1, 2, 3, 5, 8);
    }

    @Override
    protected List<Communicator> group(int world, Duration deadline) {
        int devices = world % 2 == 0 ? 1 : Cuda.deviceCount(); // even worlds share one
        return LocalGroup.create(
                IntStream.range(0, world)
                        .mapToObj(rank -> Device.cuda(rank % devices))
                        .toList(),
                deadline);
    }
}
