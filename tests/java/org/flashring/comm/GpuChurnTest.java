package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.ref.WeakReference;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.flashring.comm.Ranks.Ending;
import org.flashring.comm.local.LocalGroup;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.comm.nccl.NcclOptions;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.support.Leaks;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Fifty groups on GPUs that fail, one after the other, leave nothing behind, of the devices' memory neither. */
@RequiresGpu(value = 2, nccl = true)
@Timeout(300)
class GpuChurnTest {
    private static final Duration DEADLINE = Duration.ofSeconds(20);
    private static final List<Device> DEVICES = List.of(Device.cuda(0), Device.cuda(1));
    private static final long BYTES = 8 << 20;

    private static void churn(Supplier<List<Communicator>> group) throws InterruptedException {
        fails(group, new ArrayList<>());
        long before = Cuda.memory(DEVICES.get(0)).free();
        List<WeakReference<Object>> groups = new ArrayList<>();
        Leaks.leavesNothing(groups, () -> fails(group, groups));
        assertThat(before - Cuda.memory(DEVICES.get(0)).free()).isLessThan(64L << 20);
    }

    private static void fails(Supplier<List<Communicator>> group, List<WeakReference<Object>> groups) {
        List<Ending> endings = Ranks.run(group.get(), communicator -> {
            synchronized (groups) {
                groups.add(new WeakReference<>(communicator));
            }
            int peer = 1 - communicator.rank();
            try (OwnedMemory memory = communicator.allocate(2 * BYTES)) {
                communicator.post(memory.address(), BYTES, peer, memory.address() + BYTES, BYTES, peer);
                communicator.await();
                communicator.synchronize();
                communicator.agree(Map.of("mask", communicator.rank() == 1 ? "full" : "causal"));
            }
        });
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("mask is full on rank 1"));
    }

    @Test
    void threadsThatCopy() throws InterruptedException {
        churn(() -> LocalGroup.create(DEVICES, DEADLINE));
    }

    @Test
    void nccl() throws InterruptedException {
        churn(() -> NcclGroup.create(DEVICES, DEADLINE));
    }

    @Test
    void ncclThatKnowsMemory() throws InterruptedException {
        churn(() -> NcclGroup.create(DEVICES, DEADLINE, NcclOptions.lean()));
    }
}
