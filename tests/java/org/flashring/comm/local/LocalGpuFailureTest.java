package org.flashring.comm.local;

import java.time.Duration;
import java.util.List;
import org.flashring.comm.Communicator;
import org.flashring.comm.FailureContract;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.support.RequiresGpu;

/** Ranks that are threads and copy on one GPU, or between two where there are two. */
@RequiresGpu
class LocalGpuFailureTest extends FailureContract {
    @Override
    protected List<Communicator> group(Duration deadline) {
        return LocalGroup.create(List.of(Device.cuda(0), Device.cuda(1 % Cuda.deviceCount())), deadline);
    }

    @Override
    protected Duration shortDeadline() {
        return Duration.ofSeconds(1);
    }

    @Override
    protected String named(String verb) {
        return verb.equals("exchange") || verb.equals("batch") ? "receive for rank 1" : verb;
    }
}
