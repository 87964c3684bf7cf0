package org.flashring.comm.process;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.internal.Native;
import org.flashring.launch.Environment;
import org.flashring.support.Leaks;
import org.flashring.support.RankProcesses;
import org.flashring.support.TwoHosts;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** Two hosts, of which one has ranks 0 and 1 and the other rank 2. */
@Timeout(120)
@EnabledOnOs(value = OS.LINUX, disabledReason = "namespaces are Linux's")
class TwoHostsTest {
    private static final String RANKS =
            """
            on a bash -c '
                for rank in 0 1; do RANK=$rank LOCAL_RANK=$rank "$@" >"$FOLDER/rank$rank" 2>&1 & done
                wait' bash "$@" &
            RANK=2 LOCAL_RANK=0 on b "$@" >"$FOLDER/rank2" 2>&1 &
            wait
            """;

    @TempDir
    Path folder;

    @Test
    void ranksOfOneHostShareMemoryAndOthersHaveSockets() throws Exception {
        TwoHosts.assumePossible();
        try (TwoHosts hosts = TwoHosts.start(
                folder,
                RANKS,
                RankProcesses.command(Rank.class),
                Map.of("WORLD_SIZE", "3", "MASTER_ADDR", TwoHosts.MASTER, "MASTER_PORT", "29507"))) {
            hosts.end(Duration.ofSeconds(100));
            String said = hosts.file("hosts");
            for (int rank = 0; rank < 3; rank++) {
                said += hosts.file("rank" + rank);
            }
            assertThat(said)
                    .contains("rank 0 shares memory for 2 lanes; the sum is 6.0")
                    .contains("rank 1 shares memory for 2 lanes; the sum is 6.0")
                    .contains("rank 2 shares memory for 0 lanes; the sum is 6.0");
        }
    }

    static final class Rank {
        private Rank() {}

        public static void main(String[] args) {
            try (Communicator ranks = ProcessGroup.join(Environment.current(), Map.of(), Duration.ofSeconds(20))) {
                ByteBuffer number = ByteBuffer.allocateDirect(8).order(ByteOrder.nativeOrder());
                try (Communicator part = ranks.split(0, -ranks.rank())) {
                    number.putFloat(0, part.rank() + 1);
                    part.allReduce(Native.address(number), 1, DType.FLOAT32);
                }
                System.out.println("rank " + ranks.rank() + " shares memory for " + Leaks.mappings()
                        + " lanes; the sum is " + number.getFloat(0));
                ranks.barrier();
            }
        }
    }
}
