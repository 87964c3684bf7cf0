package org.flashring.comm.nccl;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.flashring.device.DeferredFrees;
import org.flashring.device.Device;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Where NCCL's own abort hangs, nobody waits for it: neither who failed nor who frees memory. */
@Timeout(20)
class NcclAbortTest {
    private static final Device DEVICE = Device.cuda(0);
    private static final Device OTHER = Device.cuda(1);

    private final AtomicInteger freed = new AtomicInteger();

    @Test
    void memoryIsFreedAtOnceWhereNothingIsEnded() {
        DeferredFrees.free(DEVICE, freed::incrementAndGet);
        assertThat(NcclWatchdog.end(List.of(DEVICE, OTHER), () -> {})).isTrue();
        DeferredFrees.free(DEVICE, freed::incrementAndGet);
        assertThat(freed).hasValue(2);
    }

    @Test
    void anAbortThatHangsHoldsNobodyUp() throws InterruptedException {
        CountDownLatch hang = new CountDownLatch(1);
        long start = System.nanoTime();
        assertThat(NcclWatchdog.end(List.of(DEVICE), () -> awaitQuietly(hang))).isFalse();
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(Duration.ofSeconds(5));
        assertThat(NcclWatchdog.end(List.of(DEVICE), () -> {}))
                .as("another group's, on the same device")
                .isTrue();

        CountDownLatch late = new CountDownLatch(1);
        DeferredFrees.free(DEVICE, () -> {
            freed.incrementAndGet();
            late.countDown();
        });
        DeferredFrees.free(OTHER, freed::incrementAndGet);
        assertThat(freed).as("the other device's alone").hasValue(1);
        hang.countDown();
        late.await();
        assertThat(freed).hasValue(2);
    }

    private static void awaitQuietly(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }
}
