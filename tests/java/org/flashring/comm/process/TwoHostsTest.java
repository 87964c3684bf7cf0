package org.flashring.comm.process;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.internal.Native;
import org.flashring.launch.Environment;
import org.flashring.support.Leaks;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/**
 * Two hosts, here two network namespaces with a memory of their own each, joined by a cable: ranks 0 and 1 are on one,
 * rank 2 is on the other.
 */
@Timeout(120)
@EnabledOnOs(value = OS.LINUX, disabledReason = "namespaces are Linux's")
class TwoHostsTest {
    private static final String HOSTS =
            """
            set -e
            mount -t tmpfs none /run
            mkdir /run/netns
            for host in a b; do ip netns add $host; done
            ip link add cable netns a type veth peer name cable netns b
            ip -n a addr add 10.77.0.1/24 dev cable
            ip -n b addr add 10.77.0.2/24 dev cable
            for host in a b; do ip -n $host link set lo up; ip -n $host link set cable up; done
            on() {
                host=$1
                shift
                nsenter --net=/run/netns/$host unshare -m \\
                    sh -c 'mount -t tmpfs -o size=16m none /dev/shm; exec "$@"' sh "$@"
            }
            on a bash -c '
                for rank in 0 1; do RANK=$rank LOCAL_RANK=$rank "$@" >"$FOLDER/rank$rank" 2>&1 & done
                wait' bash "$@" &
            RANK=2 LOCAL_RANK=0 on b "$@" >"$FOLDER/rank2" 2>&1 &
            wait
            """;
    private static final List<String> NAMESPACES = List.of("timeout", "-s", "KILL", "80", "unshare", "-rnm");

    @TempDir
    Path folder;

    private static boolean succeeds(List<String> before, String... words) throws InterruptedException {
        List<String> line = new ArrayList<>(before);
        line.addAll(List.of(words));
        try {
            return new ProcessBuilder(line).start().waitFor() == 0;
        } catch (IOException e) {
            return false; // there is no such program
        }
    }

    @Test
    void ranksOfOneHostShareMemoryAndOthersHaveSockets() throws Exception {
        assumeTrue(
                succeeds(NAMESPACES, "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"),
                "this process may not have network namespaces, or there is no 'ip'");
        List<String> line = new ArrayList<>(NAMESPACES);
        line.addAll(List.of("bash", "-c", HOSTS, "bash"));
        line.addAll(RankProcesses.command(Rank.class));
        ProcessBuilder builder = new ProcessBuilder(line)
                .redirectErrorStream(true)
                .redirectOutput(folder.resolve("hosts").toFile());
        builder.environment()
                .putAll(Map.of(
                        "FOLDER",
                        folder.toString(),
                        "WORLD_SIZE",
                        "3",
                        "MASTER_ADDR",
                        "10.77.0.1",
                        "MASTER_PORT",
                        "29507"));
        Process hosts = builder.start();
        assertThat(hosts.waitFor(100, TimeUnit.SECONDS)).isTrue();
        String said = Files.readString(folder.resolve("hosts"));
        for (int rank = 0; rank < 3; rank++) {
            said += Files.readString(folder.resolve("rank" + rank));
        }
        assertThat(said)
                .contains("rank 0 shares memory for 2 lanes; the sum is 6.0")
                .contains("rank 1 shares memory for 2 lanes; the sum is 6.0")
                .contains("rank 2 shares memory for 0 lanes; the sum is 6.0");
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
