package org.flashring.comm.nccl;

import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.comm.Communicator;
import org.flashring.comm.CommunicatorContract;
import org.flashring.device.Device;
import org.flashring.support.RequiresGpu;

/** The contract over NCCL with few channels, no clusters and memory that NCCL knows. */
@RequiresGpu(value = 2, nccl = true)
class NcclChannelsContractTest extends CommunicatorContract {
    @Override
    protected IntStream worlds() {
        return IntStream.of(2);
    }

    @Override
    protected List<Communicator> group(int world, Duration deadline) {
        return NcclGroup.create(
                IntStream.range(0, world).mapToObj(Device::cuda).toList(),
                deadline,
                NcclOptions.lean().withChannels(1, 2));
    }
}
