package org.flashring.robustness;

import static org.flashring.robustness.BadCase.argument;
import static org.flashring.robustness.BadCase.state;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.comm.Transfers;
import org.flashring.comm.local.LocalGroup;
import org.flashring.comm.peer.PeerGroup;
import org.flashring.comm.process.Medium;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.launch.Environment;

/** Arguments of communicators and groups that break a rule. Addresses are never followed. */
final class BadCommunication {
    private static final DType F32 = DType.FLOAT32;
    private static final Duration DEADLINE = Duration.ofSeconds(1);
    private static final Environment ALONE = new Environment(0, 0, 1, "127.0.0.1", 29_511, "");
    private static final long A = 1 << 12;
    private static final long B = 1 << 13;
    private static final long HUGE = Long.MAX_VALUE / 2;

    private BadCommunication() {}

    @FunctionalInterface
    private interface Use {
        void of(Communicator communicator) throws Exception;
    }

    /** A call on rank 1 of 4; were it not refused it would wait until the deadline. */
    private static ThrowingCallable rank1(Use use) {
        return () -> {
            List<Communicator> ranks = LocalGroup.create(4, DEADLINE);
            try {
                use.of(ranks.get(1));
            } finally {
                ranks.forEach(Communicator::close);
            }
        };
    }

    private static ThrowingCallable closed(Use use) {
        return rank1(c -> {
            c.close();
            use.of(c);
        });
    }

    static List<BadCase> cases() {
        return List.of(
                argument("post: to below 0", rank1(c -> c.post(A, 8, -1, B, 8, 0)), "to", -1),
                argument("post: to beyond the world", rank1(c -> c.post(A, 8, 4, B, 8, 0)), "to", 4),
                argument("post: from below 0", rank1(c -> c.post(A, 8, 0, B, 8, -2)), "from", -2),
                argument("post: from beyond the world", rank1(c -> c.post(A, 8, 0, B, 8, 5)), "from", 5),
                argument("post: negative bytes to send", rank1(c -> c.post(A, -8, 0, B, 8, 0)), "sendBytes", -8),
                argument("post: negative bytes to receive", rank1(c -> c.post(A, 8, 0, B, -8, 0)), "receiveBytes", -8),
                argument("post: send null", rank1(c -> c.post(0, 8, 0, B, 8, 0)), "send", 0),
                argument("post: receive null", rank1(c -> c.post(A, 8, 0, 0, 8, 0)), "receive", 0),
                argument("post: send below null", rank1(c -> c.post(-A, 8, 0, B, 8, 0)), "send", -A),
                argument("post: buffers overlap", rank1(c -> c.post(A, 8, 0, A + 7, 8, 0)), "receive", A + 7),
                argument(
                        "post: end overflows",
                        rank1(c -> c.post(A, Long.MAX_VALUE, 0, B, 8, 0)),
                        "end of send",
                        Long.MAX_VALUE),
                argument("post: batch null", rank1(c -> c.post(null)), "batch", null),
                argument(
                        "post: batch to beyond the world",
                        rank1(c -> c.post(new Transfers().send(A, 8, 0).send(A, 8, 4))),
                        "to",
                        4),
                argument(
                        "post: batch from beyond the world",
                        rank1(c -> c.post(new Transfers().receive(A, 8, 7))),
                        "from",
                        7),
                argument("batch: to below 0", () -> new Transfers().send(A, 8, -1), "to", -1),
                argument("batch: from below 0", () -> new Transfers().receive(A, 8, -3), "from", -3),
                argument("batch: negative bytes to send", () -> new Transfers().send(A, -8, 0), "sendBytes", -8),
                argument(
                        "batch: negative bytes to receive",
                        () -> new Transfers().receive(A, -8, 0),
                        "receiveBytes",
                        -8),
                argument("batch: send null", () -> new Transfers().send(0, 8, 0), "send", 0),
                argument(
                        "batch: end overflows",
                        () -> new Transfers().receive(B, Long.MAX_VALUE, 0),
                        "end of receive",
                        Long.MAX_VALUE),
                argument(
                        "batch: sends what it receives",
                        () -> new Transfers().receive(A, 8, 0).receive(B, 8, 1).send(B - 7, 8, 1),
                        "send",
                        B - 7),
                argument(
                        "batch: receives what it sends",
                        () -> new Transfers().send(A, 8, 0).receive(A + 7, 8, 1),
                        "receive",
                        A + 7),
                argument(
                        "batch: receives twice at one place",
                        () -> new Transfers().receive(A, 8, 0).receive(A + 7, 8, 1),
                        "receive",
                        A + 7),
                argument("await: no such ticket", rank1(c -> c.await(0)), "ticket", 0),
                argument("await: negative ticket", rank1(c -> c.await(-1)), "ticket", -1),
                argument("allGather: parts null", rank1(c -> c.allGather(A, null, B)), "bytes", null),
                argument(
                        "allGather: too few parts",
                        rank1(c -> c.allGather(A, new long[] {8, 8, 8}, B)),
                        "bytes.length",
                        3),
                argument(
                        "allGather: negative part",
                        rank1(c -> c.allGather(A, new long[] {8, 8, -8, 8}, B)),
                        "bytes[2]",
                        -8),
                argument(
                        "allGather: parts overflow",
                        rank1(c -> c.allGather(A, new long[] {8, 8, HUGE, HUGE}, B)),
                        "received bytes",
                        HUGE),
                argument("allGather: part null", rank1(c -> c.allGather(0, new long[] {0, 8, 0, 0}, B)), "send", 0),
                argument(
                        "allGather: part in place elsewhere",
                        rank1(c -> c.allGather(A + 8, new long[] {16, 8, 0, 0}, A)),
                        "receive",
                        A),
                argument("reduceScatter: parts null", rank1(c -> c.reduceScatter(A, null, F32, B)), "counts", null),
                argument(
                        "reduceScatter: too many parts",
                        rank1(c -> c.reduceScatter(A, new long[5], F32, B)),
                        "counts.length",
                        5),
                argument(
                        "reduceScatter: negative part",
                        rank1(c -> c.reduceScatter(A, new long[] {-1, 1, 1, 1}, F32, B)),
                        "counts[0]",
                        -1),
                argument(
                        "reduceScatter: parts overflow",
                        rank1(c -> c.reduceScatter(A, new long[] {1, 1, 1, HUGE}, F32, B)),
                        "sent bytes",
                        HUGE),
                argument(
                        "reduceScatter: misaligned part",
                        rank1(c -> c.reduceScatter(A, new long[] {3, 1, 1, 1}, F32, B + 2)),
                        "receive",
                        B + 2),
                argument(
                        "reduceScatter: part in place elsewhere",
                        rank1(c -> c.reduceScatter(A, new long[] {3, 1, 1, 1}, F32, A)),
                        "receive",
                        A),
                argument("split: negative color", rank1(c -> c.split(-1, 0)), "color", -1),
                argument("allGather: negative bytes", rank1(c -> c.allGather(A, -1, B)), "bytes", -1),
                argument("allGather: send null", rank1(c -> c.allGather(0, 8, B)), "send", 0),
                argument("allGather: receive null", rank1(c -> c.allGather(A, 8, 0)), "receive", 0),
                argument("allGather: overflow", rank1(c -> c.allGather(A, HUGE, B)), "received bytes", HUGE),
                argument("allGather: in place elsewhere", rank1(c -> c.allGather(A, 8, A)), "receive", A),
                argument("allGather: receive ends in send", rank1(c -> c.allGather(B, 8, B - 31)), "receive", B - 31),
                argument("allToAll: negative bytes", rank1(c -> c.allToAll(A, -1, B)), "bytes", -1),
                argument("allToAll: send null", rank1(c -> c.allToAll(0, 8, B)), "send", 0),
                argument("allToAll: receive null", rank1(c -> c.allToAll(A, 8, 0)), "receive", 0),
                argument("allToAll: overflow", rank1(c -> c.allToAll(A, HUGE, B)), "sent bytes", HUGE),
                argument("allToAll: in place", rank1(c -> c.allToAll(A, 8, A)), "receive", A),
                argument("allToAll: overlap by a byte", rank1(c -> c.allToAll(A, 8, A + 31)), "receive", A + 31),
                argument("allReduce: negative count", rank1(c -> c.allReduce(A, -1, F32)), "count", -1),
                argument("allReduce: null data", rank1(c -> c.allReduce(0, 3, F32)), "data", 0),
                argument("allReduce: misaligned data", rank1(c -> c.allReduce(A + 2, 3, F32)), "data", A + 2),
                argument("allReduce: dtype null", rank1(c -> c.allReduce(A, 3, null)), "dtype", null),
                argument("allReduce: overflow", rank1(c -> c.allReduce(A, HUGE, F32)), "bytes", HUGE),
                argument("reduceScatter: negative count", rank1(c -> c.reduceScatter(A, -1, F32, B)), "count", -1),
                argument("reduceScatter: send null", rank1(c -> c.reduceScatter(0, 3, F32, B)), "send", 0),
                argument("reduceScatter: receive null", rank1(c -> c.reduceScatter(A, 3, F32, 0)), "receive", 0),
                argument(
                        "reduceScatter: misaligned send",
                        rank1(c -> c.reduceScatter(A + 4, 3, DType.FLOAT64, B)),
                        "send",
                        A + 4),
                argument(
                        "reduceScatter: misaligned receive",
                        rank1(c -> c.reduceScatter(A, 3, DType.FLOAT16, B + 1)),
                        "receive",
                        B + 1),
                argument("reduceScatter: dtype null", rank1(c -> c.reduceScatter(A, 3, null, B)), "dtype", null),
                argument(
                        "reduceScatter: overflow",
                        rank1(c -> c.reduceScatter(A, HUGE / 4, F32, B)),
                        "sent bytes",
                        HUGE / 4 * 4),
                argument("reduceScatter: in place elsewhere", rank1(c -> c.reduceScatter(A, 3, F32, A)), "receive", A),
                argument("agree: terms null", rank1(c -> c.agree(null)), "terms", null),
                argument("abort: cause null", rank1(c -> c.abort(null)), "cause", null),
                state("closed communicator: post", closed(c -> c.post(A, 8, 0, B, 8, 0)), "rank 1", "closed"),
                state("closed communicator: post of a batch", closed(c -> c.post(new Transfers())), "rank 1", "closed"),
                state("closed communicator: await", closed(Communicator::await), "rank 1", "closed"),
                state("closed communicator: allGather", closed(c -> c.allGather(A, 8, B)), "rank 1", "closed"),
                state("closed communicator: allToAll", closed(c -> c.allToAll(A, 8, B)), "rank 1", "closed"),
                state("closed communicator: allReduce", closed(c -> c.allReduce(A, 3, F32)), "rank 1", "closed"),
                state(
                        "closed communicator: reduceScatter",
                        closed(c -> c.reduceScatter(A, 3, F32, B)),
                        "rank 1",
                        "closed"),
                state("closed communicator: barrier", closed(Communicator::barrier), "rank 1", "closed"),
                state("closed communicator: agree", closed(c -> c.agree(Map.of())), "rank 1", "closed"),
                state("closed communicator: split", closed(c -> c.split(0, 0)), "rank 1", "closed"),
                argument("group: no ranks", () -> LocalGroup.create(0, DEADLINE), "worldSize", 0),
                argument("group: negative ranks", () -> LocalGroup.create(-4, DEADLINE), "worldSize", -4),
                argument(
                        "group: too many ranks",
                        () -> LocalGroup.create(Integer.MAX_VALUE, DEADLINE),
                        "worldSize",
                        Integer.MAX_VALUE),
                argument("group: deadline null", () -> LocalGroup.create(2, null), "deadline", null),
                argument("group: deadline 0", () -> LocalGroup.create(2, Duration.ZERO), "deadline", "PT0S"),
                argument(
                        "group: deadline negative",
                        () -> LocalGroup.create(2, Duration.ofMillis(-5)),
                        "deadline",
                        "PT-0.005S"),
                argument(
                        "group: deadline beyond the clock",
                        () -> LocalGroup.create(2, Duration.ofDays(200_000)),
                        "deadline",
                        "PT4800000H"),
                argument("group: body null", () -> LocalGroup.run(2, null), "body", null),
                argument("group: run on no ranks", () -> LocalGroup.run(0, c -> null), "worldSize", 0),
                argument(
                        "processes: environment null",
                        () -> ProcessGroup.join(null, Map.of(), DEADLINE),
                        "environment",
                        null),
                argument("processes: terms null", () -> ProcessGroup.join(ALONE, null, DEADLINE), "terms", null),
                argument(
                        "processes: deadline 0",
                        () -> ProcessGroup.join(ALONE, Map.of(), Duration.ZERO),
                        "deadline",
                        "PT0S"),
                argument(
                        "peers: environment null", () -> PeerGroup.join(null, Map.of(), DEADLINE), "environment", null),
                argument("peers: terms null", () -> PeerGroup.join(ALONE, null, DEADLINE), "terms", null),
                argument("peers: deadline 0", () -> PeerGroup.join(ALONE, Map.of(), Duration.ZERO), "deadline", "PT0S"),
                argument(
                        "peers: fallback null",
                        () -> PeerGroup.join(ALONE, Map.of(), DEADLINE, null),
                        "fallback",
                        null),
                argument(
                        "processes: medium null",
                        () -> ProcessGroup.join(ALONE, Map.of(), DEADLINE, null),
                        "medium",
                        null),
                argument(
                        "processes: no such medium",
                        () -> Medium.of(Map.of(Medium.VARIABLE, "pigeons")),
                        Medium.VARIABLE,
                        "'pigeons'"));
    }
}
