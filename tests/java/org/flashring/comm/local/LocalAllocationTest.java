package org.flashring.comm.local;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.comm.Transfers;
import org.flashring.device.HostBuffer;
import org.flashring.support.HeapBytes;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** No verb that moves data puts anything on the Java heap. */
@Timeout(60)
class LocalAllocationTest {
    private static final int WORLD = 3;

    @Test
    void callsAllocateNothing() {
        List<Long> allocated = LocalGroup.run(WORLD, communicator -> {
            try (HostBuffer memory = HostBuffer.allocate(4096)) {
                Transfers batch = new Transfers();
                long[] parts = {8, 0, 16};
                return HeapBytes.of(() -> verbs(communicator, memory.address(), batch, parts));
            }
        });
        assertThat(allocated).allMatch(bytes -> bytes < HeapBytes.OF_AN_OBJECT_A_CALL);
    }

    private static void verbs(Communicator c, long memory, Transfers batch, long[] parts) {
        long target = memory + 2048;
        batch.clear();
        for (int peer = 0; peer < WORLD; peer++) {
            batch.send(memory, 8, peer).send(memory + 8, 16, peer);
            batch.receive(target + 24L * peer, 8, peer).receive(target + 24L * peer + 8, 16, peer);
        }
        long ticket = c.post(batch);
        c.post(memory, 8, (c.rank() + 1) % WORLD, target + 512, 8, (c.rank() + 2) % WORLD);
        c.await(ticket);
        c.await();
        c.allGather(memory, 8, target);
        c.allGather(memory, parts, target);
        c.allToAll(memory, 8, target);
        c.allReduce(memory, 4, DType.FLOAT32);
        c.reduceScatter(memory, 4, DType.FLOAT32, target);
        c.reduceScatter(memory, parts, DType.BFLOAT16, target);
        c.barrier();
    }
}
