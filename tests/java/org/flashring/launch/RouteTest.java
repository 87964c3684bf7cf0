package org.flashring.launch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.NetworkInterface;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.flashring.comm.CommunicationException;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Where rank 0 listens and what the others are told when they do not find it. */
@Timeout(120)
class RouteTest {
    private static final Duration DEADLINE = Duration.ofSeconds(30);
    private static final Duration SHORT = Duration.ofMillis(600);

    @TempDir
    Path folder;

    private final int port = RankProcesses.freePort();

    private Environment environment(int rank, String master, String bind) {
        return new Environment(rank, rank, 2, master, port, "run", bind, Secret.NONE);
    }

    private void reached(String host, boolean expected) throws IOException {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress(host, port), 2_000);
            assertThat(expected).as("%s is reached", host).isTrue();
        } catch (ConnectException e) {
            assertThat(expected).as("%s is not reached", host).isFalse();
        }
    }

    private static Optional<String> ownAddress() throws IOException {
        return NetworkInterface.networkInterfaces()
                .flatMap(NetworkInterface::inetAddresses)
                .filter(address -> !address.isLoopbackAddress() && !address.isLinkLocalAddress())
                .map(InetAddress::getHostAddress)
                .findFirst();
    }

    @Test
    void onOneHostTheLoopbackAloneIsOpen() throws IOException {
        Map<String, String> variables = Map.of(
                "RANK",
                "0",
                "LOCAL_RANK",
                "0",
                "WORLD_SIZE",
                "2",
                "LOCAL_WORLD_SIZE",
                "2",
                "MASTER_ADDR",
                "node1",
                "MASTER_PORT",
                String.valueOf(port));
        assertThat(Environment.of(variables).masterAddress()).isEqualTo("127.0.0.1");
        try (Door door = Route.open(Environment.of(variables))) {
            assertThat(door).isNotNull();
            reached("127.0.0.1", true);
            reached("127.0.0.2", false);
            if (ownAddress().isPresent()) {
                reached(ownAddress().get(), false);
            }
        }
    }

    @Test
    void forSeveralHostsEveryAddressIsOpen() throws IOException {
        try (Door door = Route.open(environment(0, "node1.invalid", ""))) {
            assertThat(door).isNotNull();
            reached("127.0.0.1", true);
            reached("127.0.1.1", true);
            if (ownAddress().isPresent()) {
                reached(ownAddress().get(), true);
            }
        }
    }

    @Test
    void whereTheBindAddressSaysTheDoorIs() throws IOException {
        try (Door door = Route.open(environment(0, "node1.invalid", "127.0.0.3"))) {
            assertThat(door).isNotNull();
            reached("127.0.0.3", true);
            reached("127.0.0.1", false);
        }
    }

    @Test
    void aBindAddressOfAnotherHostIsNamed() {
        assertThatThrownBy(() -> Rendezvous.join(environment(0, "node1", "203.0.113.7"), Map.of(), SHORT))
                .isInstanceOf(CommunicationException.class)
                .hasMessageContainingAll("rank 0 cannot listen at 203.0.113.7, port " + port, "FLASHRING_BIND_ADDRESS");
        assertThatThrownBy(() -> Rendezvous.join(environment(0, "node1", "nobody.invalid"), Map.of(), SHORT))
                .isInstanceOf(CommunicationException.class)
                .hasMessageContainingAll("rank 0 cannot listen at nobody.invalid", "this host does not know the name");
    }

    @Test
    void aPortThatIsTakenIsNamed() throws IOException {
        try (ServerSocket other = new ServerSocket(port, 1, InetAddress.getByName("127.0.0.1"))) {
            assertThat(other.isBound()).isTrue();
            assertThatThrownBy(() -> Rendezvous.join(environment(0, "127.0.0.1", ""), Map.of(), SHORT))
                    .isInstanceOf(CommunicationException.class)
                    .hasMessageContainingAll(
                            "rank 0 cannot listen at 127.0.0.1, port " + port, "set MASTER_PORT to a free port");
        }
    }

    @Test
    void rankZeroSaysWhereItWaitedAndTheOthersWhereTheyLooked() {
        assertThatThrownBy(() -> Rendezvous.join(environment(0, "localhost", ""), Map.of(), SHORT))
                .hasMessageContainingAll(
                        "rank 1 has not come within the 600 ms",
                        "at localhost, port " + port + ", where processes of this host alone reach it");
        assertThatThrownBy(() -> Rendezvous.join(environment(0, "node1.invalid", ""), Map.of(), SHORT))
                .hasMessageContainingAll(
                        "port " + port + " of every address of its host",
                        "look for it at node1.invalid, a name that this host does not know");
        assertThatThrownBy(() -> Rendezvous.join(environment(1, "localhost", ""), Map.of(), SHORT))
                .hasMessageContainingAll(
                        "rank 1 cannot reach rank 0 at localhost:" + port,
                        "within 600 ms",
                        "attempts at localhost, which is 127.0.0.1",
                        "set MASTER_ADDR to an address by which all hosts reach it");
        assertThatThrownBy(() -> Rendezvous.join(environment(1, "node1.invalid", ""), Map.of(), SHORT))
                .hasMessageContainingAll(
                        "a name that this host does not know",
                        "set MASTER_ADDR to a name or an address by which all hosts reach rank 0's");
    }

    /** Programs that connect and wait, such as probes, do not hold up those who belong here. */
    @Test
    void whoSaysNothingHoldsNobodyUp() throws Exception {
        List<Socket> silent = new ArrayList<>();
        try {
            CompletableFuture<Session> leader = CompletableFuture.supplyAsync(
                    () -> Rendezvous.join(environment(0, "127.0.0.1", ""), Map.of(), DEADLINE));
            while (silent.size() < 40) {
                try {
                    silent.add(new Socket("127.0.0.1", port));
                } catch (ConnectException e) {
                    Thread.sleep(10); // not yet
                }
            }
            long start = System.nanoTime();
            Rendezvous.join(environment(1, "127.0.0.1", ""), Map.of(), DEADLINE).close();
            leader.join().close();
            // one by one they would take 80
            assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(Duration.ofSeconds(20));
        } finally {
            for (Socket socket : silent) {
                socket.close();
            }
        }
    }

    /**
     * A name that rank 0's own host gives the loopback, as Debian does, and one that stands for a service, at no
     * interface of any host.
     */
    @Test
    void namesThatMeanDifferentThingsOnDifferentHosts() throws Exception {
        assumeTrue(System.getProperty("os.name").equals("Linux"), "all of 127.0.0.0/8 is this host on Linux alone");
        List<Process> ranks = new ArrayList<>();
        for (int rank = 0; rank < 2; rank++) {
            Path hosts = folder.resolve("hosts" + rank);
            Files.writeString(
                    hosts,
                    rank == 0 ? "127.0.1.1 node1\n203.0.113.7 service\n" : "127.0.0.2 node1\n127.0.0.3 service\n");
            ProcessBuilder builder = new ProcessBuilder(
                    Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                    "-Djdk.net.hosts.file=" + hosts,
                    "-cp",
                    System.getProperty("java.class.path"),
                    Host.class.getName(),
                    String.valueOf(rank),
                    String.valueOf(port));
            ranks.add(builder.redirectErrorStream(true)
                    .redirectOutput(folder.resolve("rank" + rank).toFile())
                    .start());
        }
        RankProcesses running = new RankProcesses(ranks, folder);
        for (int rank = 0; rank < 2; rank++) {
            assertThat(running.exitCode(rank, Duration.ofSeconds(60)))
                    .as(running.output(rank))
                    .isZero();
            assertThat(running.output(rank)).contains("met at node1", "met at service");
        }
    }

    static final class Host {
        private Host() {}

        public static void main(String[] args) {
            int rank = Integer.parseInt(args[0]);
            for (String name : List.of("node1", "service")) {
                Environment environment = new Environment(rank, 0, 2, name, Integer.parseInt(args[1]), name);
                try (Session session = Rendezvous.join(environment, Map.of(), DEADLINE)) {
                    session.exchange(new byte[] {1});
                    System.out.println("met at " + name);
                }
            }
        }
    }
}
