package org.flashring.comm.nccl;

import java.time.Duration;
import java.util.List;
import org.flashring.comm.Communicator;
import org.flashring.comm.FailureContract;
import org.flashring.device.Device;
import org.flashring.support.RequiresGpu;

/** Ranks that are threads with a GPU each, over NCCL. */
@RequiresGpu(value = 2, nccl = true)
class NcclFailureContractTest extends FailureContract {
    @Override
    protected List<Communicator> group(Duration deadline) {
        return NcclGroup.create(List.of(Device.cuda(0), Device.cuda(1)), deadline);
    }

    @Override
    protected Duration shortDeadline() {
        return Duration.ofSeconds(2);
    }

    @Override
    protected String named(String verb) {
        return switch (verb) {
            case "exchange" -> "exchange to rank 1 and from rank 1";
            case "batch" -> "exchange of 2 messages sent and 2 received";
            default -> verb;
        };
    }
}
