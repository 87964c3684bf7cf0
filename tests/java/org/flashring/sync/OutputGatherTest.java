package org.flashring.sync;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.support.FencedBuffer;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Shards gathered into a whole, and its gradient taken home, row by row: each element tells its position. Values are
 * whole numbers, whose sums are exact.
 */
@Timeout(60)
class OutputGatherTest {
    private static final int BATCH = 2;
    private static final int HEADS = 3;
    private static final int DIM = 5;

    /** Which of the positions are gathered. */
    private enum Marked {
        ALL,
        NONE,
        EVERY_SECOND,
        SOME,
        LAST;

        boolean has(int position, int length) {
            return switch (this) {
                case ALL -> true;
                case NONE -> false;
                case EVERY_SECOND -> position % 2 == 1;
                case SOME -> position * 7 % 5 < 2 || position > length - 4;
                case LAST -> position == length - 1;
            };
        }

        List<Integer> of(int length) {
            return IntStream.range(0, length)
                    .filter(position -> has(position, length))
                    .boxed()
                    .toList();
        }
    }

    private static Stream<Arguments> cases(boolean all) {
        List<Arguments> cases = new ArrayList<>();
        int number = 0;
        for (int world : new int[] {1, 2, 3, 4, 8}) {
            for (Layout.Policy policy : Layout.Policy.values()) {
                for (int length : new int[] {0, 1, 5, 16, 37}) {
                    for (Marked marked : Marked.values()) {
                        for (boolean documents : new boolean[] {false, true}) {
                            if (all || number++ % 4 == 0) {
                                cases.add(Arguments.of(world, policy, length, marked, documents));
                            }
                        }
                    }
                }
            }
        }
        return cases.stream();
    }

    static Stream<Arguments> some() {
        return cases(false);
    }

    static Stream<Arguments> all() {
        return cases(true);
    }

    private static double value(int row, int position, int head, int i) {
        return ((row * 64 + position) * 8 + head) * 8 + i;
    }

    /** The gradient that a rank has of the row at {@code position}. */
    private static double gradient(int rank, int row, int position, int head, int i) {
        return value(row, position, head, i) % 97 * (rank + 1);
    }

    @ParameterizedTest(name = "{0} ranks, {1}, {2} tokens, {3}, documents {4}")
    @MethodSource("some")
    void gathersInOrderAndTakesGradientsHome(
            int world, Layout.Policy policy, int length, Marked marked, boolean documents) {
        check(world, policy, length, marked, documents, DType.FLOAT64);
    }

    @Tag("full")
    @ParameterizedTest(name = "{0} ranks, {1}, {2} tokens, {3}, documents {4}")
    @MethodSource("all")
    void gathersInOrderAndTakesGradientsHomeInAllCases(
            int world, Layout.Policy policy, int length, Marked marked, boolean documents) {
        check(world, policy, length, marked, documents, DType.FLOAT32);
        check(world, policy, length, marked, documents, DType.FLOAT64);
    }

    private static void check(
            int world, Layout.Policy policy, int length, Marked marked, boolean documents, DType dtype) {
        Layout layout = documents && length > 4
                ? Layout.of(policy, new long[] {0, 3, 4, length}, world)
                : Layout.of(policy, length, world);
        List<Integer> rows = marked.of(length);
        Positions positions = Positions.of(rows.stream()
                .map(position -> new Positions.Range(position, 1, 1))
                .toList());
        LocalGroup.run(world, communicator -> {
            int rank = communicator.rank();
            Positions held = layout.positions(rank);
            int local = (int) held.length();
            FencedBuffer out = new FencedBuffer(dtype, (long) BATCH * local * HEADS * DIM);
            FencedBuffer dout = new FencedBuffer(dtype, (long) BATCH * local * HEADS * DIM);
            FencedBuffer whole = new FencedBuffer(dtype, (long) BATCH * rows.size() * HEADS * DIM);
            FencedBuffer dwhole = new FencedBuffer(dtype, (long) BATCH * rows.size() * HEADS * DIM);
            fill(out, local, (row, i, head, n) -> value(row, (int) held.position(i), head, n));
            fill(dwhole, rows.size(), (row, i, head, n) -> gradient(rank, row, rows.get(i), head, n));
            try (OutputGather gather = marked == Marked.ALL
                    ? OutputGather.of(communicator, layout, dtype, BATCH, HEADS, DIM)
                    : OutputGather.ofMarked(communicator, layout, positions, dtype, BATCH, HEADS, DIM)) {
                assertThat(gather.rows()).isEqualTo(rows.size());
                gather.forward(tensor(out, local), tensor(whole, rows.size()));
                require(whole, rows.size(), (row, i, head, n) -> value(row, rows.get(i), head, n));

                gather.backward(tensor(dwhole, rows.size()), tensor(dout, local));
                int everyone = world * (world + 1) / 2; // of rank r the (r + 1)-fold
                require(
                        dout,
                        local,
                        (row, i, head, n) -> marked.has((int) held.position(i), length)
                                ? everyone * gradient(0, row, (int) held.position(i), head, n)
                                : 0);

                gather.backwardOfOneLoss(tensor(dwhole, rows.size()), tensor(dout, local));
                require(
                        dout,
                        local,
                        (row, i, head, n) -> marked.has((int) held.position(i), length)
                                ? gradient(rank, row, (int) held.position(i), head, n)
                                : 0);
            }
            out.requireUntouched("out", new BitSet());
            dwhole.requireUntouched("dwhole", new BitSet());
            return null;
        });
    }

    @FunctionalInterface
    private interface Element {
        double at(int row, int i, int head, int n);
    }

    /** [batch, heads, length, dim] in memory, so that strides count. */
    private static int index(int length, int row, int i, int head, int n) {
        return ((row * HEADS + head) * length + i) * DIM + n;
    }

    private static Tensor tensor(FencedBuffer buffer, int length) {
        return Tensor.bhsd(buffer.memory(0), buffer.dtype(), BATCH, HEADS, length, DIM);
    }

    private static void fill(FencedBuffer buffer, int length, Element element) {
        each(length, (row, i, head, n) -> {
            buffer.put(index(length, row, i, head, n), element.at(row, i, head, n));
            return 0;
        });
        buffer.freeze();
    }

    private static void require(FencedBuffer buffer, int length, Element element) {
        each(length, (row, i, head, n) -> {
            assertEquals(element.at(row, i, head, n), buffer.get(index(length, row, i, head, n)), 1e-12);
            return 0;
        });
    }

    private static void each(int length, Element what) {
        for (int row = 0; row < BATCH; row++) {
            for (int i = 0; i < length; i++) {
                for (int head = 0; head < HEADS; head++) {
                    for (int n = 0; n < DIM; n++) {
                        what.at(row, i, head, n);
                    }
                }
            }
        }
    }

    /**
     * A million tokens: the whole goes in as many copies as there are ranges, and marked rows cost no more than rows.
     */
    @Test
    void longShardsAreFewRuns() {
        Layout layout = Layout.striped(1 << 20, 8);
        Positions all = Positions.contiguous(0, 1 << 20);
        assertThat(GatheredRows.of(layout.positions(3), all).runs()).hasSize(1);
        assertThat(GatheredRows.of(Layout.zigzag(1 << 20, 8).positions(3), all).runs())
                .hasSize(2);
        Positions everyFourth = Positions.of(List.of(new Positions.Range(1, 1 << 18, 4)));
        assertThat(GatheredRows.of(layout.positions(1), everyFourth).runs())
                .containsExactly(new GatheredRows.Run(0, 1 << 17, 0, 1, 0, 2));
        assertThat(GatheredRows.of(layout.positions(3), everyFourth).rows()).isZero();
    }

    @Test
    void whatDoesNotFitIsRefused() {
        Layout layout = Layout.contiguous(4, 1);
        try (Communicator alone = LocalGroup.single();
                OutputGather gather = OutputGather.of(alone, layout, DType.FLOAT64, BATCH, HEADS, DIM)) {
            FencedBuffer buffer = new FencedBuffer(DType.FLOAT64, BATCH * 5 * HEADS * DIM);
            Tensor right = tensor(buffer, 4);
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> gather.forward(tensor(buffer, 5), right))
                    .withMessageContaining("local.length is 5; it must be 4");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> gather.backward(right, tensor(buffer, 3)))
                    .withMessageContaining("dlocal.length is 3");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> gather.forward(right, null))
                    .withMessageContaining("gathered is null");
            assertThatIllegalArgumentException()
                    .isThrownBy(() ->
                            gather.forward(Tensor.bhsd(buffer.memory(0), DType.FLOAT32, BATCH, HEADS, 4, DIM), right))
                    .withMessageContaining("local.dtype is FLOAT32; it must be FLOAT64");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> gather.forward(
                            right, Tensor.strided(buffer.memory(0), DType.FLOAT64, BATCH, 4, HEADS, DIM, 0, 0, 5)))
                    .withMessageContaining("gathered is")
                    .withMessageContaining("writable");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> OutputGather.of(alone, Layout.zigzag(4, 2), DType.FLOAT64, 1, 1, 1)
                            .close())
                    .withMessageContaining("layout.worldSize is 2");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> OutputGather.ofMarked(
                                    alone, layout, Positions.contiguous(2, 3), DType.FLOAT64, 1, 1, 1)
                            .close())
                    .withMessageContaining("last marked position is 4");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> OutputGather.of(alone, layout, DType.FLOAT64, 1, 1, 0)
                            .close())
                    .withMessageContaining("dim is 0");
            OutputGather closed = OutputGather.of(alone, layout, DType.FLOAT64, BATCH, HEADS, DIM);
            closed.close();
            assertThatThrownBy(() -> closed.forward(right, right))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("closed");
        }
    }
}
