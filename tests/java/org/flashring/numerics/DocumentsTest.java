package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Arrays;
import java.util.Collections;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.RequiresGpu;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Documents of queries and of keys that differ in length, and documents that differ by row of the batch. */
class DocumentsTest {
    private static final int QUERIES = 31;
    private static final int KEYS = 43;
    private static final long[] OF_QUERIES = {0, 7, 7, 12, 13, 29}; // two queries are in none
    private static final long[] OF_KEYS = {0, 3, 8, 20, 20, 40};
    private static final long[][] ROWS = {{0, 5, 5, 31}, {0, 31}, {0, 10, 11, 12, 28}};

    /** The windows: keys before and after a query that it sees, negative for all, and a prefix or -1. */
    private record Window(long left, long right, long prefix) {
        Mask of(Mask documents) {
            Mask mask = documents.window(left, right);
            return prefix < 0 ? mask : mask.prefix(prefixes());
        }

        long[] prefixes() {
            long[] prefixes = new long[OF_KEYS.length - 1];
            Arrays.setAll(prefixes, i -> i == 2 ? 0 : prefix);
            return prefixes;
        }

        /** Returns whether a query sees a key, both counted from the ends of their documents on. */
        boolean sees(long queryFromEnd, long keyFromEnd) {
            long after = queryFromEnd - keyFromEnd;
            return (left < 0 || -after <= left) && (right < 0 || after <= right);
        }
    }

    private static final Window[] WINDOWS = {
        new Window(-1, -1, -1),
        new Window(-1, 0, -1),
        new Window(4, 2, -1),
        new Window(Long.MAX_VALUE, Long.MAX_VALUE, -1),
        new Window(-1, 0, 2),
        new Window(0, 0, 30)
    };

    private static int documentOf(long[] offsets, int token) {
        for (int i = 0; i + 1 < offsets.length; i++) {
            if (offsets[i] <= token && token < offsets[i + 1]) {
                return i;
            }
        }
        return -1;
    }

    /** The rule, pair by pair. */
    private static boolean sees(Window window, int query, int key) {
        int document = documentOf(OF_QUERIES, query);
        if (document < 0 || documentOf(OF_KEYS, key) != document) {
            return false;
        }
        boolean inPrefix = window.prefix() >= 0 && key - OF_KEYS[document] < window.prefixes()[document];
        long queryFromEnd = OF_QUERIES[document + 1] - query;
        long keyFromEnd = OF_KEYS[document + 1] - key;
        return window.sees(queryFromEnd, keyFromEnd)
                || inPrefix && (window.left() < 0 || keyFromEnd - queryFromEnd <= window.left());
    }

    private static boolean[][] matrix(Window window) {
        boolean[][] sees = new boolean[QUERIES][KEYS];
        for (int query = 0; query < QUERIES; query++) {
            for (int key = 0; key < KEYS; key++) {
                sees[query][key] = sees(window, query, key);
            }
        }
        return sees;
    }

    /** Returns each window with each world size and strategy. */
    private static Stream<Arguments> inEveryWay(Stream<?> windows) {
        return windows.flatMap(window -> Stream.of(
                Arguments.of(window, 1, new Ring()),
                Arguments.of(window, 3, new Ring()),
                Arguments.of(window, 4, new Gather(1)),
                Arguments.of(window, 4, new Halo())));
    }

    static Stream<Arguments> runs() {
        return inEveryWay(Stream.of(WINDOWS));
    }

    @ParameterizedTest
    @MethodSource("runs")
    void queriesSeeKeysOfTheirDocumentAlone(Window window, int world, Strategy strategy) {
        AttentionShape shape = AttentionShape.of(2, 4, 2, 8, DType.FLOAT64);
        Problem problem = new Problem(shape, QUERIES, KEYS, MaskRule.FULL, Double.NaN, world);
        Layout queries = Layout.zigzag(QUERIES, world);
        Layout keys = Layout.striped(KEYS, world);
        Mask mask = window.of(Mask.full().documents(OF_QUERIES, OF_KEYS));
        run(problem, queries, keys, mask, strategy)
                .requireWithin(
                        1e-12,
                        Oracle.float64(problem, new boolean[][][] {matrix(window)}),
                        mask + " over " + world + ", " + strategy);
    }

    private static Result run(Problem problem, Layout queries, Layout keys, Mask mask, Strategy strategy) {
        return run(problem, queries, keys, mask, strategy, Device.HOST);
    }

    /** Runs all ranks on one device. */
    private static Result run(
            Problem problem, Layout queries, Layout keys, Mask mask, Strategy strategy, Device device) {
        AttentionOptions options = device.isCuda() ? AttentionOptions.defaults().onCuda() : AttentionOptions.defaults();
        Plan plan = Plan.of(
                new org.flashring.plan.Problem(problem.shape(), queries, keys, mask, Score.standard()),
                strategy,
                options);
        RingRun run = new RingRun(
                problem,
                queries,
                keys,
                strategy,
                options,
                Placement.PADDED,
                problem.shape().dtype());
        Result result = Result.none(problem);
        Problem.Inputs inputs = problem.inputs();
        LocalGroup.run(Collections.nCopies(plan.worldSize(), device), LocalGroup.DEFAULT_DEADLINE, communicator -> {
            run.rank(plan, communicator, inputs, result, 0);
            return null;
        });
        return result;
    }

    @ParameterizedTest
    @EnumSource(
            value = DType.class,
            names = {"FLOAT32", "BFLOAT16"})
    @RequiresGpu
    void gpusGiveWhatTheHostGives(DType dtype) {
        double bound = dtype == DType.FLOAT32 ? 1e-4 : 0.06;
        AttentionShape shape = AttentionShape.of(3, 4, 2, 64, dtype);
        Problem cross = new Problem(shape, QUERIES, KEYS, MaskRule.FULL, Double.NaN, 1);
        Problem self = Problem.of(shape, QUERIES, MaskRule.CAUSAL, 2);
        Layout queries = Layout.zigzag(QUERIES, 2);
        Layout keys = Layout.striped(KEYS, 2);
        for (Strategy strategy : new Strategy[] {new Ring(), new Gather(1), new Halo()}) {
            for (Window window : WINDOWS) {
                Mask mask = window.of(Mask.full().documents(OF_QUERIES, OF_KEYS));
                run(cross, queries, keys, mask, strategy, Device.cuda(0))
                        .requireWithin(bound, run(cross, queries, keys, mask, strategy), mask + ", " + strategy);
            }
            Mask mask = Mask.causal().packedRows(ROWS);
            run(self, queries, queries, mask, strategy, Device.cuda(0))
                    .requireWithin(bound, run(self, queries, queries, mask, strategy), mask + ", " + strategy);
        }
    }

    @Test
    void intervalsAreTheRuleAndTheirEndsNeverDecrease() {
        for (Window window : WINDOWS) {
            Mask mask = window.of(Mask.full().documents(OF_QUERIES, OF_KEYS));
            for (int query = 0; query < QUERIES; query++) {
                for (int key = 0; key < KEYS; key++) {
                    assertThat(mask.lo(query) <= key && key < mask.hi(query))
                            .as("query %d sees key %d under %s", query, key, window)
                            .isEqualTo(sees(window, query, key));
                }
                assertThat(query == 0 || mask.lo(query - 1) <= mask.lo(query)).isTrue();
                assertThat(query == 0 || mask.hi(query - 1) <= mask.hi(query)).isTrue();
            }
        }
    }

    @Test
    void pairsAreCountedInEveryStep() {
        for (Window window : WINDOWS) {
            Plan plan = Plan.of(
                    AttentionShape.of(1, 1, 1, 4, DType.FLOAT32),
                    Layout.zigzag(QUERIES, 3),
                    Layout.striped(KEYS, 3),
                    window.of(Mask.full().documents(OF_QUERIES, OF_KEYS)),
                    AttentionOptions.defaults());
            long pairs = 0;
            for (int rank = 0; rank < 3; rank++) {
                for (int step = 0; step < plan.steps(); step++) {
                    pairs += plan.visiblePairs(rank, step);
                }
            }
            long expected = 0;
            for (boolean[] query : matrix(window)) {
                for (boolean key : query) {
                    expected += key ? 1 : 0;
                }
            }
            assertThat(pairs).as(window.toString()).isEqualTo(expected);
        }
    }

    @Test
    void equalDocumentsAreOneList() {
        assertThat(Mask.causal().documents(OF_KEYS, OF_KEYS.clone()))
                .isEqualTo(Mask.causal().documents(OF_KEYS));
        assertThat(Mask.causal().documents(OF_QUERIES, OF_KEYS))
                .isNotEqualTo(Mask.causal().documents(OF_QUERIES))
                .hasToString("causal, 5 documents of queries and of keys");
    }

    static Stream<Arguments> rowRuns() {
        return inEveryWay(Stream.of(MaskRule.FULL, MaskRule.CAUSAL, MaskRule.FULL.window(3, 1)));
    }

    @ParameterizedTest
    @MethodSource("rowRuns")
    void rowsSeeTheirOwnDocuments(MaskRule window, int world, Strategy strategy) {
        AttentionShape shape = AttentionShape.of(3, 4, 2, 8, DType.FLOAT64);
        Problem problem = Problem.of(shape, QUERIES, window, world);
        boolean[][][] sees = new boolean[3][][];
        Arrays.setAll(sees, row -> window.documents(ROWS[row]).matrix(QUERIES, QUERIES));
        Layout layout = Layout.zigzag(QUERIES, world);
        Mask mask = window.mask().packedRows(ROWS);
        assertThat(mask).isEqualTo(Mask.full().packedRows(ROWS).window(window.left(), window.right()));
        run(problem, layout, layout, mask, strategy)
                .requireWithin(1e-12, Oracle.float64(problem, sees), mask + " over " + world + ", " + strategy);
    }

    /** Each row has the bits of a batch of that row alone. */
    @ParameterizedTest
    @EnumSource
    void aRowIsWhatItIsAlone(DType dtype) {
        AttentionShape shape = AttentionShape.of(3, 2, 1, 16, dtype);
        Problem problem = Problem.of(shape, QUERIES, MaskRule.CAUSAL, 5);
        Layout layout = Layout.contiguous(QUERIES, 2);
        Result all = run(problem, layout, layout, Mask.causal().packedRows(ROWS), new Ring());
        for (int row = 0; row < 3; row++) {
            Result shared = run(problem, layout, layout, Mask.causal().documents(ROWS[row]), new Ring());
            for (String name : Result.NAMES) {
                int size = all.tensor(name).length / 3;
                assertThat(Arrays.copyOfRange(all.tensor(name), row * size, (row + 1) * size))
                        .as("%s of row %d", name, row)
                        .containsExactly(Arrays.copyOfRange(shared.tensor(name), row * size, (row + 1) * size));
            }
        }
    }

    @Test
    void stepsThatOneRowNeedsAreRun() {
        Mask mask = Mask.full().packedRows(new long[] {0, 10, 20}, new long[] {0, 20});
        Plan plan = Plan.of(
                AttentionShape.of(2, 1, 1, 4, DType.FLOAT32),
                Layout.contiguous(20, 2),
                mask,
                AttentionOptions.defaults());
        assertThat(plan.steps()).isEqualTo(2);
        assertThat(plan.visiblePairs(0, 0)).isEqualTo(200);
        assertThat(plan.visiblePairs(0, 1)).isEqualTo(100); // none of the first row
        assertThat(plan.toString()).contains("full, 2 rows of documents");
    }

    @Test
    void whatDiffersByRowIsAskedByRow() {
        Mask mask = Mask.causal().packedRows(ROWS);
        assertThat(mask.rows()).isEqualTo(3);
        assertThat(mask.ofRow(2)).isEqualTo(Mask.causal().documents(ROWS[2]));
        Mask shared = Mask.causal().documents(ROWS[2]);
        assertThat(shared.ofRow(8)).isSameAs(shared);
        assertThatThrownBy(() -> mask.lo(0))
                .isInstanceOf(IllegalStateException.class)
                .hasMessage("rows have documents of their own; ask ofRow(row) for the mask of one");
        assertThatThrownBy(mask::cuSeqlens).isInstanceOf(IllegalStateException.class);
        assertThatThrownBy(mask::documentCount).isInstanceOf(IllegalStateException.class);
    }
}
