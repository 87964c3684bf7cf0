package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.offset;
import static org.assertj.core.api.Assertions.withinPercentage;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Memory;
import org.flashring.plan.Plan;
import org.flashring.support.Elements;
import org.flashring.support.HostMemory;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** A million tokens over four ranks, causal within documents: memory grows with the shard, and with nothing squared. */
@Timeout(120)
class LongSequenceTest {
    private static final int TOKENS = 1 << 20;
    private static final int WORLD = 4;
    private static final int DIM = 64;
    private static final int DOCUMENT = 127;
    private static final long MIB = 1 << 20;
    private static final AttentionShape SHAPE = AttentionShape.of(1, 1, 1, DIM, DType.BFLOAT16);
    private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

    private static Plan plan(int tokens, int world, AttentionOptions options) {
        long[] offsets = LongStream.concat(
                        LongStream.iterate(0, offset -> offset < tokens, offset -> offset + DOCUMENT),
                        LongStream.of(tokens))
                .toArray();
        return Plan.of(
                SHAPE,
                Layout.zigzag(tokens, world),
                MaskRule.CAUSAL.documents(offsets).mask(),
                options);
    }

    @Test
    void plansHoldAShardsWorth() {
        long heap = THREADS.getCurrentThreadAllocatedBytes();
        Plan plan = plan(TOKENS, WORLD, AttentionOptions.defaults());
        assertThat(THREADS.getCurrentThreadAllocatedBytes() - heap)
                .as("Java heap that planning took")
                .isLessThan(4 * MIB);

        long shardElements = (long) TOKENS / WORLD * DIM;
        Plan halfAsLong = plan(TOKENS / 2, WORLD, AttentionOptions.defaults());
        Plan twiceAsWide = plan(TOKENS, 2 * WORLD, AttentionOptions.defaults());
        for (int rank = 0; rank < WORLD; rank++) {
            assertThat(plan.bytesHeld(rank)).as("bytes of rank %d", rank).isLessThan(64 * shardElements);
            assertThat(halfAsLong.bytesHeld(rank)).isCloseTo(plan.bytesHeld(rank) / 2, withinPercentage(1));
            assertThat(twiceAsWide.bytesHeld(rank)).isCloseTo(plan.bytesHeld(rank) / 2, withinPercentage(1));
        }
        long pairs = 0;
        for (int rank = 0; rank < WORLD; rank++) {
            for (int step = 0; step < plan.steps(); step++) {
                pairs += plan.visiblePairs(rank, step);
            }
        }
        long documents = TOKENS / DOCUMENT;
        long rest = TOKENS % DOCUMENT;
        assertThat(pairs).isEqualTo(documents * DOCUMENT * (DOCUMENT + 1) / 2 + rest * (rest + 1) / 2);
    }

    /** One rank's tensors. */
    private record Shard(ByteBuffer q, ByteBuffer k, ByteBuffer v, ByteBuffer out, ByteBuffer lse) {
        static Shard of(int tokens) {
            return new Shard(
                    memory(2 * tokens * DIM),
                    memory(2 * tokens * DIM),
                    memory(2 * tokens * DIM),
                    memory(2 * tokens * DIM),
                    memory(4 * tokens));
        }

        private static ByteBuffer memory(int bytes) {
            return ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
        }
    }

    @Test
    void ringRunsInThatMemory() {
        Plan plan = plan(TOKENS, WORLD, AttentionOptions.defaults().forwardOnly());
        long peakBefore = HostMemory.statusBytes("VmHWM");
        long before = HostMemory.statusBytes("VmRSS");
        List<Shard> shards = LocalGroup.run(WORLD, communicator -> forward(plan, communicator));
        long planned = IntStream.range(0, WORLD)
                .mapToLong(rank -> plan.bytesHeld(rank) + plan.callerBytes(rank))
                .sum();
        assertThat(HostMemory.statusBytes("VmHWM"))
                .as("peak memory of the process, %d before", before)
                .isLessThan(Math.max(peakBefore, before + planned + 256 * MIB));

        for (int cut = 0; cut <= 2 * WORLD; cut++) { // the documents at the borders of shards
            int start = Math.max(0, TOKENS / (2 * WORLD) * cut - 1) / DOCUMENT * DOCUMENT;
            compare(plan, shards, start, Math.min(DOCUMENT, TOKENS - start));
        }
    }

    private static Shard forward(Plan plan, Communicator communicator) {
        int rank = communicator.rank();
        Positions positions = plan.queries().positions(rank);
        int tokens = Math.toIntExact(positions.length());
        Shard shard = Shard.of(tokens);
        fill(shard.q(), 1, positions);
        fill(shard.k(), 2, positions);
        fill(shard.v(), 3, positions);
        long heap = THREADS.getCurrentThreadAllocatedBytes();
        try (RingAttention ring = new RingAttention(plan, communicator)) {
            assertThat(ring.bytesHeld()).isEqualTo(plan.bytesHeld(rank));
            ring.forward(
                    tensor(shard.q(), tokens),
                    tensor(shard.k(), tokens),
                    tensor(shard.v(), tokens),
                    tensor(shard.out(), tokens),
                    Tensor.lse(Memory.of(shard.lse()), DType.FLOAT32, 1, 1, tokens));
            assertThat(THREADS.getCurrentThreadAllocatedBytes() - heap)
                    .as("Java heap that rank %d took, loading of classes included", rank)
                    .isLessThan(8 * MIB);
        }
        return shard;
    }

    private static Tensor tensor(ByteBuffer memory, int tokens) {
        return Tensor.packed(Memory.of(memory), DType.BFLOAT16, tokens, 1, DIM);
    }

    private static void fill(ByteBuffer memory, int stream, Positions positions) {
        ByteBuffer palette = Shard.memory(2 * 256);
        for (int i = 0; i < 256; i++) {
            Elements.put(DType.BFLOAT16, palette, i, value(i));
        }
        for (int token = 0; token < positions.length(); token++) {
            long position = positions.position(token);
            for (int d = 0; d < DIM; d++) {
                memory.putShort(2 * (token * DIM + d), palette.getShort(2 * choice(stream, position, d)));
            }
        }
    }

    /** Returns a number in [0, 256) that looks random. */
    private static int choice(int stream, long position, int d) {
        long hash = ((position * DIM + d) * 4 + stream) * 0x9E3779B97F4A7C15L;
        hash = (hash ^ hash >>> 29) * 0xBF58476D1CE4E5B9L;
        return (int) (hash >>> 56);
    }

    /** Returns one of 256 evenly spaced numbers in [-2, 2). */
    private static double value(int choice) {
        return choice / 64.0 - 2;
    }

    private static void compare(Plan plan, List<Shard> shards, int start, int length) {
        double[][] inputs = new double[4][length * DIM];
        for (int i = 0; i < length * DIM; i++) {
            for (int stream = 1; stream < 4; stream++) {
                inputs[stream - 1][i] = value(choice(stream, start + i / DIM, i % DIM));
            }
        }
        Problem document = Problem.of(SHAPE, length, MaskRule.CAUSAL, 0);
        Result expected =
                Oracle.plain(document, new Problem.Inputs(inputs[0], inputs[1], inputs[2], inputs[3]), DType.FLOAT64);
        for (int token = 0; token < length; token++) {
            Shard shard = shards.get(plan.queries().rankOf(start + token));
            int local = Math.toIntExact(plan.queries().localIndexOf(start + token));
            assertThat((double) shard.lse().getFloat(4 * local))
                    .as("lse at %d", start + token)
                    .isCloseTo(expected.lse()[token], offset(1e-4));
            for (int d = 0; d < DIM; d++) {
                assertThat(Elements.get(DType.BFLOAT16, shard.out(), local * DIM + d))
                        .as("out at (%d, %d)", start + token, d)
                        .isCloseTo(expected.out()[token * DIM + d], offset(0x1p-6));
            }
        }
    }
}
