package org.flashring.comm.local;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.flashring.comm.EveryVerb;
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
                return HeapBytes.of(() -> EveryVerb.call(communicator, memory.address(), batch, parts));
            }
        });
        assertThat(allocated).allMatch(bytes -> bytes < HeapBytes.OF_AN_OBJECT_A_CALL);
    }
}
