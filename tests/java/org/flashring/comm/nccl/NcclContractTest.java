package org.flashring.comm.nccl;

import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.comm.Communicator;
import org.flashring.comm.CommunicatorContract;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.support.RequiresGpu;

/** Ranks that are threads with a GPU each, over NCCL. */
@RequiresGpu(value = 2, nccl = true)
class NcclContractTest extends CommunicatorContract {
    @Override
    protected IntStream worlds() {
        return IntStream.of(1, 2, Cuda.deviceCount()).distinct();
    }

    @Override
    protected List<Communicator> group(int world, Duration deadline) {
        return NcclGroup.create(IntStream.range(0, world).mapToObj(Device::cuda).toList(), deadline);
    }
}
