package org.flashring.comm.local;

import static org.assertj.core.api.Assertions.catchThrowable;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.flashring.comm.Ranks;
import org.flashring.device.HostBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Nobody touches a rank's memory when it has been told so. */
@Timeout(60)
class LocalMemoryTest {
    private static final Duration LONG = Duration.ofSeconds(15);

    /** A rank that throws frees its memory next: by then no peer may read it. */
    @Test
    void noPeerReadsARanksMemoryOnceAbortHasReturned() throws Exception {
        int size = 32 << 20;
        byte before = 1;
        byte after = 2;
        try (HostBuffer sent = HostBuffer.allocate(size);
                HostBuffer received = HostBuffer.allocate(size)) {
            for (int trial = 0; trial < 12; trial++) {
                int delay = trial;
                fill(sent, before);
                fill(received, (byte) 0);
                CountDownLatch reading = new CountDownLatch(1);
                Ranks.run(2, LONG, c -> {
                    if (c.rank() == 0) {
                        c.post(sent.address(), size, 1, 0, 0, 1);
                        reading.await();
                        pause(delay);
                        c.abort(new IllegalStateException("out of memory, say"));
                        fill(sent, after);
                    } else {
                        c.post(0, 0, 0, received.address(), size, 0);
                        reading.countDown();
                        Throwable unused = catchThrowable(c::await);
                    }
                });
                byte[] got = new byte[size];
                bytes(received).get(got);
                for (int i = 0; i < size; i++) {
                    if (got[i] == after) {
                        throw new AssertionError("byte " + i + " was read after abort had returned, in trial " + trial);
                    }
                }
            }
        }
    }

    private static ByteBuffer bytes(HostBuffer buffer) {
        try (BytePointer pointer = new At(buffer.address(), buffer.bytes())) {
            return pointer.asBuffer();
        }
    }

    private static final class At extends BytePointer {
        At(long address, long bytes) {
            super((Pointer) null);
            this.address = address;
            this.capacity = bytes;
            this.limit = bytes;
        }
    }

    private static void fill(HostBuffer buffer, byte value) {
        try (At at = new At(buffer.address(), buffer.bytes())) {
            Pointer.memset(at, value, buffer.bytes());
        }
    }

    private static void pause(int millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
