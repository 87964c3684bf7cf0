package org.flashring.comm.nccl;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.IntPointer;
import org.flashring.comm.Communicator;
import org.flashring.comm.Ranks;
import org.flashring.comm.Ranks.Ending;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.OwnedMemory;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Memory that NCCL knows carries what any memory does, is used again, and goes with its group, however that ends. */
@RequiresGpu(value = 2, nccl = true)
@Timeout(120)
class NcclMemoryTest {
    private static final int COUNT = 8 << 20; // ints: beyond what goes by NCCL's protocols for short messages
    private static final long BYTES = (long) COUNT * Integer.BYTES;

    private static void run(Ranks.Body body) {
        List<Device> devices = List.of(Device.cuda(0), Device.cuda(1));
        List<Ending> endings = Ranks.run(NcclGroup.create(devices, Duration.ofSeconds(20), NcclOptions.lean()), body);
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    private static void exchange(Communicator ranks, OwnedMemory memory, int round) {
        int peer = 1 - ranks.rank();
        int[] numbers = new int[COUNT];
        for (int i = 0; i < COUNT; i++) {
            numbers[i] = i * 31 + ranks.rank() + 2 * round;
        }
        DeviceBuffer whole = (DeviceBuffer) memory;
        try (IntPointer from = new IntPointer(numbers)) {
            whole.upload(from);
        }
        ranks.post(memory.address(), BYTES, peer, memory.address() + BYTES, BYTES, peer);
        ranks.await();
        ranks.synchronize();
        try (IntPointer to = new IntPointer(2L * COUNT)) {
            whole.download(to);
            for (int i = 0; i < COUNT; i++) {
                if (to.get(COUNT + (long) i) != i * 31 + peer + 2 * round) {
                    throw new AssertionError("number " + i + " of round " + round + " is " + to.get(COUNT + (long) i));
                }
            }
        }
    }

    @Test
    void exchangesArriveAndWhatIsClosedIsUsedAgain() {
        run(ranks -> {
            long first;
            try (OwnedMemory memory = ranks.allocate(2 * BYTES)) {
                first = memory.address();
                exchange(ranks, memory, 0);
                exchange(ranks, memory, 1);
            }
            try (OwnedMemory memory = ranks.allocate(2 * BYTES - 512);
                    OwnedMemory other = ranks.allocate(2 * BYTES)) {
                assertThat(memory.address()).isEqualTo(first);
                assertThat(other.address()).isNotEqualTo(first);
                exchange(ranks, other, 2);
            }
            try (Communicator part = ranks.split(0, 0);
                    OwnedMemory memory = part.allocate(2 * BYTES)) {
                exchange(part, memory, 3);
            }
            ranks.barrier();
        });
    }

    /** Groups that leave, or fail, while their memory is in use: none of it is left. */
    @Test
    void itGoesWithTheGroup() {
        List<Long> free = new ArrayList<>();
        for (int round = 0; round < 12; round++) {
            boolean fails = round % 2 == 1;
            List<OwnedMemory> late = new ArrayList<>();
            run(ranks -> {
                OwnedMemory memory = ranks.allocate(2 * BYTES);
                synchronized (late) {
                    late.add(memory);
                }
                exchange(ranks, memory, 0);
                ranks.allocate(64).close();
                ranks.barrier();
                if (fails && ranks.rank() == 1) {
                    ranks.abort(new IllegalStateException("enough"));
                }
            });
            late.forEach(OwnedMemory::close); // after its group
            free.add(Cuda.memory(Device.cuda(0)).free());
        }
        assertThat(free.get(11)).isGreaterThan(free.get(1) - 2 * BYTES);
    }
}
