package org.flashring.launch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.DataOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.comm.CommunicationException;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Processes are played by threads: the rendezvous shares nothing between them but the socket. */
@Timeout(60)
class RendezvousTest {
    private static final Duration DEADLINE = Duration.ofSeconds(10);
    private static final Duration SHORT = Duration.ofMillis(600);
    private static final AttentionShape SHAPE = AttentionShape.of(1, 4, 2, 64, DType.BFLOAT16);

    private static Environment rank(int rank, int world, int port) {
        return new Environment(rank, rank, world, "127.0.0.1", port, "run");
    }

    /** What a rank brings; who joins with what, and how it ended. */
    private record Guest(Environment environment, Map<String, String> terms, Duration deadline) {}

    private record Ending(Session session, Throwable thrown) {}

    private static Ending join(Guest guest) {
        try {
            return new Ending(Rendezvous.join(guest.environment(), guest.terms(), guest.deadline()), null);
        } catch (Throwable e) {
            return new Ending(null, e);
        }
    }

    private static List<Ending> meet(List<Guest> guests) throws InterruptedException {
        Ending[] endings = new Ending[guests.size()];
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < guests.size(); i++) {
            int own = i;
            Thread thread = new Thread(() -> endings[own] = join(guests.get(own)));
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        return List.of(endings);
    }

    private static List<Session> sessions(int world) throws InterruptedException {
        int port = RankProcesses.freePort();
        List<Guest> guests = new ArrayList<>();
        for (int rank = 0; rank < world; rank++) {
            guests.add(new Guest(rank(rank, world, port), Map.of("dtype", "BFLOAT16"), DEADLINE));
        }
        return meet(guests).stream()
                .map(ending -> {
                    assertThat(ending.thrown()).isNull();
                    return ending.session();
                })
                .toList();
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 8})
    void ranksThatAgreeExchangeBytes(int world) throws InterruptedException {
        List<Session> sessions = sessions(world);
        List<Thread> threads = new ArrayList<>();
        byte[][][] received = new byte[world][][];
        for (Session session : sessions) {
            Thread thread = new Thread(() -> received[session.rank()] =
                    session.exchange(("of " + session.rank()).getBytes(StandardCharsets.UTF_8)));
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        for (int rank = 0; rank < world; rank++) {
            assertThat(sessions.get(rank).worldSize()).isEqualTo(world);
            for (int peer = 0; peer < world; peer++) {
                assertThat(new String(received[rank][peer], StandardCharsets.UTF_8))
                        .isEqualTo("of " + peer);
            }
        }
        sessions.forEach(Session::close);
    }

    private static Plan plan(AttentionShape shape, Layout layout, Mask mask, AttentionOptions options) {
        return Plan.of(shape, layout, mask, options);
    }

    private static Plan plan(AttentionShape shape, Layout layout, Mask mask, double scale) {
        return Plan.of(
                Problem.of(shape, layout, mask).with(Score.scaledBy(scale)), new Ring(), AttentionOptions.defaults());
    }

    /** Plans that differ from the usual one in one thing each, and what the error must name. */
    static Stream<Arguments> otherPlans() {
        Layout layout = Layout.zigzag(1000, 2);
        Mask mask = Mask.causal();
        AttentionOptions options = AttentionOptions.defaults();
        return Stream.of(
                Arguments.of("batch", plan(AttentionShape.of(2, 4, 2, 64, DType.BFLOAT16), layout, mask, options)),
                Arguments.of("queryHeads", plan(AttentionShape.of(1, 8, 2, 64, DType.BFLOAT16), layout, mask, options)),
                Arguments.of("kvHeads", plan(AttentionShape.of(1, 4, 4, 64, DType.BFLOAT16), layout, mask, options)),
                Arguments.of(
                        "headDim", plan(new AttentionShape(1, 4, 2, 128, 64, DType.BFLOAT16), layout, mask, 0.125)),
                Arguments.of(
                        "valueDim", plan(new AttentionShape(1, 4, 2, 64, 32, DType.BFLOAT16), layout, mask, options)),
                Arguments.of("dtype", plan(AttentionShape.of(1, 4, 2, 64, DType.FLOAT16), layout, mask, options)),
                Arguments.of("layout of the queries", plan(SHAPE, Layout.zigzag(1001, 2), mask, options)),
                Arguments.of("layout of the queries", plan(SHAPE, Layout.striped(1000, 2), mask, options)),
                Arguments.of("layout of the keys", Plan.of(SHAPE, layout, Layout.contiguous(1000, 2), mask, options)),
                Arguments.of("mask", plan(SHAPE, layout, Mask.full(), options)),
                Arguments.of("mask", plan(SHAPE, layout, mask.window(7, 0), options)),
                Arguments.of("softmaxScale", plan(SHAPE, layout, mask, 0.5)),
                Arguments.of("backward", plan(SHAPE, layout, mask, options.forwardOnly())),
                Arguments.of("wireDType", plan(SHAPE, layout, mask, options.withWireDType(DType.BFLOAT16))),
                Arguments.of("kernel", plan(SHAPE, layout, mask, options.withKernel(Kernel.REFERENCE))),
                Arguments.of("deterministic", plan(SHAPE, layout, mask, options.asDeterministic())));
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("otherPlans")
    void anotherPlanIsAnErrorOnEveryRank(String named, Plan other) throws InterruptedException {
        Plan usual = plan(SHAPE, Layout.zigzag(1000, 2), Mask.causal(), AttentionOptions.defaults());
        refused(named, List.of(usual.terms(), other.terms()));
    }

    @Test
    void masksWhoseWordsAreTheSameAreToldApart() throws InterruptedException {
        Plan one = plan(
                SHAPE, Layout.contiguous(1000, 2), Mask.causal().documents(0, 400, 1000), AttentionOptions.defaults());
        Plan other = plan(
                SHAPE, Layout.contiguous(1000, 2), Mask.causal().documents(0, 401, 1000), AttentionOptions.defaults());
        refused("mask", List.of(one.terms(), other.terms()));
    }

    @Test
    void aTermThatOneRankLacksIsAnErrorOnEveryRank() throws InterruptedException {
        refused("NCCL release is not given on rank 1", List.of(Map.of("NCCL release", "22803"), Map.of()));
        refused(
                "NCCL release is 22803 on rank 1, not given on rank 0",
                List.of(Map.of(), Map.of("NCCL release", "22803")));
    }

    private static void refused(String named, List<Map<String, String>> terms) throws InterruptedException {
        int port = RankProcesses.freePort();
        List<Guest> guests = new ArrayList<>();
        for (int rank = 0; rank < terms.size(); rank++) {
            guests.add(new Guest(rank(rank, terms.size(), port), terms.get(rank), DEADLINE));
        }
        for (Ending ending : meet(guests)) {
            assertThat(ending.thrown())
                    .isInstanceOf(CommunicationException.class)
                    .hasMessageContaining(named)
                    .hasMessageContaining("rank 1");
        }
    }

    @Test
    void anotherWorldSizeIsAnErrorOnEveryRank() throws InterruptedException {
        int port = RankProcesses.freePort();
        List<Ending> endings = meet(List.of(
                new Guest(rank(0, 2, port), Map.of(), DEADLINE),
                new Guest(rank(1, 3, port), Map.of(), DEADLINE),
                new Guest(rank(2, 3, port), Map.of(), DEADLINE)));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("world size is 3 on rank"));
    }

    @Test
    void aDisagreementIsToldToARankThatComesLater() throws InterruptedException {
        int port = RankProcesses.freePort();
        Thread leader = new Thread(() -> join(new Guest(rank(0, 2, port), Map.of(), DEADLINE)));
        leader.start();
        join(new Guest(rank(1, 3, port), Map.of(), DEADLINE)); // has been told when this returns
        Ending late = join(new Guest(rank(2, 3, port), Map.of(), DEADLINE));
        leader.join();
        assertThat(late.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("world size is 3 on rank 1");
    }

    @Test
    void nobodyIsWaitedForWhenAllWhoDisagreeHaveCome() throws InterruptedException {
        Duration shortest = DEADLINE;
        for (int attempt = 0;
                attempt < 3;
                attempt++) { // a busy machine may be slow once; latecomers would get two seconds each time
            int port = RankProcesses.freePort();
            long start = System.nanoTime();
            meet(List.of(
                    new Guest(rank(0, 2, port), Map.of(), DEADLINE),
                    new Guest(rank(1, 2, port), Map.of("dtype", "BFLOAT16"), DEADLINE)));
            Duration taken = Duration.ofNanos(System.nanoTime() - start);
            shortest = taken.compareTo(shortest) < 0 ? taken : shortest;
        }
        assertThat(shortest).isLessThan(Duration.ofSeconds(2));
    }

    @Test
    void twoProcessesOfOneRankAreAnErrorOnEveryRank() throws InterruptedException {
        int port = RankProcesses.freePort();
        List<Ending> endings = meet(List.of(
                new Guest(rank(0, 3, port), Map.of(), DEADLINE),
                new Guest(rank(1, 3, port), Map.of(), DEADLINE),
                new Guest(rank(1, 3, port), Map.of(), DEADLINE)));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("two processes call themselves rank 1"));
    }

    @Test
    void anotherRunIsAnErrorOnEveryRank() throws InterruptedException {
        int port = RankProcesses.freePort();
        List<Ending> endings = meet(List.of(
                new Guest(rank(0, 2, port), Map.of(), DEADLINE),
                new Guest(new Environment(1, 1, 2, "127.0.0.1", port, "yesterday's"), Map.of(), DEADLINE)));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("run 'yesterday's'")
                .hasMessageContaining("rank 1"));
    }

    @Test
    void aRankThatDoesNotComeIsNamedWithinTheDeadline() throws InterruptedException {
        int port = RankProcesses.freePort();
        long start = System.nanoTime();
        List<Ending> endings = meet(
                List.of(new Guest(rank(0, 3, port), Map.of(), SHORT), new Guest(rank(1, 3, port), Map.of(), DEADLINE)));
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 2 has not come within the 600 ms"));
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(Duration.ofSeconds(5));
    }

    @Test
    void anAbsentRankZeroIsNamedWithinTheDeadline() {
        int port = RankProcesses.freePort();
        assertThatThrownBy(() -> Rendezvous.join(rank(1, 2, port), Map.of(), SHORT))
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("cannot reach rank 0 at 127.0.0.1:" + port);
    }

    @Test
    void strangersAreTurnedAway() throws InterruptedException {
        int port = RankProcesses.freePort();
        Thread stranger = new Thread(() -> {
            for (int i = 0; i < 20; i++) {
                try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), port)) {
                    new DataOutputStream(socket.getOutputStream()).writeBytes("GET / HTTP/1.1\r\n\r\n");
                    socket.getInputStream().read();
                    return;
                } catch (IOException e) {
                    pause();
                }
            }
        });
        stranger.start();
        Thread late = new Thread(() -> {
            pause();
            pause();
            pause();
            Rendezvous.join(rank(1, 2, port), Map.of(), DEADLINE);
        });
        late.start();
        Session session = Rendezvous.join(rank(0, 2, port), Map.of(), DEADLINE);
        late.join();
        stranger.join();
        assertThat(session.worldSize()).isEqualTo(2);
        session.close();
    }

    private static void pause() {
        try {
            Thread.sleep(100);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    @Test
    void tooMuchToSayIsAnError() throws InterruptedException {
        int port = RankProcesses.freePort();
        Map<String, String> terms = new LinkedHashMap<>();
        for (int i = 0; i < 40; i++) {
            terms.put("term " + i, "x".repeat(60_000));
        }
        List<Ending> endings =
                meet(List.of(new Guest(rank(0, 2, port), terms, SHORT), new Guest(rank(1, 2, port), terms, SHORT)));
        assertThat(endings)
                .allSatisfy(ending -> assertThat(ending.thrown()).isInstanceOf(CommunicationException.class));
        assertThat(endings.get(1).thrown()).hasMessageContaining("the limit is");
    }

    @Test
    void aFailureReachesEveryRank() throws InterruptedException {
        List<Session> sessions = sessions(4);
        List<BlockingQueue<String>> heard = new ArrayList<>();
        for (Session session : sessions) {
            BlockingQueue<String> queue = new LinkedBlockingQueue<>();
            heard.add(queue);
            session.listen(queue::add);
        }
        sessions.get(2).fail("rank 2 waited 100 ms, the deadline, in exchange");
        for (int rank : new int[] {0, 1, 3}) {
            assertThat(heard.get(rank).poll(5, TimeUnit.SECONDS))
                    .isEqualTo("rank 2 waited 100 ms, the deadline, in exchange");
        }
        assertThat(heard.get(2)).isEmpty();
        sessions.forEach(Session::close);
    }

    @Test
    void useAfterCloseThrows() throws InterruptedException {
        Session session = sessions(1).get(0);
        session.close();
        session.close();
        assertThatThrownBy(() -> session.exchange(new byte[1]))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("closed");
        assertThatThrownBy(() -> session.listen(what -> {}))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("closed");
        session.fail("nobody hears this");
    }

    @Test
    void whoLeavesInPeaceAlarmsNobody() throws InterruptedException {
        List<Session> sessions = sessions(3);
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        sessions.forEach(session -> session.listen(heard::add));
        sessions.get(1).close();
        sessions.get(2).close();
        sessions.get(0).close();
        assertThat(heard.poll(300, TimeUnit.MILLISECONDS)).isNull();
    }
}
