package org.flashring.comm.process;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.flashring.comm.EveryVerb;
import org.flashring.comm.Ranks;
import org.flashring.comm.Transfers;
import org.flashring.internal.Native;
import org.flashring.support.HeapBytes;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/**
 * No verb that moves data puts anything on the Java heap. Measured in a process of its own, with few files open: the
 * JDK's selector makes an object of a descriptor beyond 127.
 */
@Timeout(60)
@EnabledOnOs(value = OS.LINUX, disabledReason = "/dev/shm is Linux's")
class ProcessAllocationTest {
    private static final int WORLD = 3;

    @TempDir
    Path folder;

    @Test
    void callsAllocateNothing() throws Exception {
        RankProcesses one = RankProcesses.start(List.of(), Measured.class, 1, folder, Map.of());
        assertThat(one.exitCode(0, Duration.ofSeconds(50))).as(one.output(0)).isZero();
        assertThat(one.output(0).lines()).hasSize(WORLD * Medium.values().length);
        assertThat(one.output(0).lines())
                .allSatisfy(bytes -> assertThat(Long.parseLong(bytes)).isLessThan(HeapBytes.OF_AN_OBJECT_A_CALL));
    }

    static final class Measured {
        private Measured() {}

        public static void main(String[] args) {
            for (Medium medium : Medium.values()) {
                Ranks.run(ProcessRanks.group(WORLD, Duration.ofSeconds(20), medium), communicator -> {
                    ByteBuffer memory = ByteBuffer.allocateDirect(4096);
                    long address = Native.address(memory);
                    Transfers batch = new Transfers();
                    long[] parts = {8, 0, 16};
                    System.out.println(HeapBytes.of(() -> EveryVerb.call(communicator, address, batch, parts)));
                });
            }
        }
    }
}
