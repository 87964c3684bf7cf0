package org.flashring.numerics;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.Problem;

/** One case of the grid: a problem, how it is dealt to ranks, and how each rank's tensors lie in memory. */
record GridCase(int number, Problem problem, String layoutName, Layout layout, Placement placement) {
    static final int[] WORLDS = {1, 2, 3, 4, 8};
    private static final int PROBLEMS_PER_MASK = 6;
    private static final int[] LENGTHS = {1, 2, 3, 5, 7, 11, 13, 17, 23, 31, 37, 40, 53, 61, 67};
    private static final int[][] HEADS = {{1, 1}, {3, 3}, {4, 2}, {6, 2}, {4, 1}, {5, 1}};
    private static final int[][] DIMS = {
        {1, 1}, {3, 3}, {5, 7}, {8, 8}, {13, 13}, {16, 16}, {17, 9}, {24, 40}, {33, 33}, {64, 64}, {128, 96}
    };

    /** Returns the masks of the grid for a sequence of {@code length} tokens. */
    private static List<MaskRule> masks(int length, Random random) {
        long[] packed = documents(length, random);
        long[] unpacked = documents(length, random);
        long[] single = new long[length + 1];
        for (int i = 0; i <= length; i++) {
            single[i] = i;
        }
        long[] short0 = documents(length - length / 4, random); // the last quarter of the queries is in no document
        int middle = length / 2;
        return List.of(
                MaskRule.FULL,
                MaskRule.CAUSAL,
                MaskRule.FULL.window(3, 0),
                MaskRule.FULL.window(0, 0),
                MaskRule.FULL.window(2, 2),
                MaskRule.FULL.window(1, 7),
                MaskRule.FULL.window(-1, 2),
                MaskRule.FULL.window(5, -1),
                MaskRule.FULL.documents(packed),
                MaskRule.CAUSAL.documents(packed),
                MaskRule.CAUSAL.documents(single),
                MaskRule.FULL.documents(short0),
                MaskRule.CAUSAL.documents(short0),
                MaskRule.FULL.window(4, 0).documents(packed),
                MaskRule.FULL.window(2, 1).documents(unpacked),
                MaskRule.CAUSAL.prefix(middle),
                MaskRule.CAUSAL.prefix(length + 5),
                MaskRule.FULL.window(6, 0).prefix(middle),
                MaskRule.CAUSAL.documents(packed).prefix(prefixes(packed, random)),
                MaskRule.FULL.window(3, 1).documents(unpacked).prefix(prefixes(unpacked, random)));
    }

    /** Returns offsets of random documents: of one token, of none, of many. */
    private static long[] documents(int length, Random random) {
        List<Long> offsets = new ArrayList<>(List.of(0L));
        long end = 0;
        while (end < length) {
            int kind = random.nextInt(4);
            end = Math.min(length, end + (kind == 0 ? 0 : kind == 1 ? 1 : 1 + random.nextInt(Math.max(1, length / 2))));
            offsets.add(end);
        }
        offsets.add(end); // an empty document at the end
        return offsets.stream().mapToLong(Long::longValue).toArray();
    }

    private static long[] prefixes(long[] offsets, Random random) {
        return random.longs(offsets.length - 1, 0, 6).toArray();
    }

    /** Returns the problems; those of one mask differ in length, heads, dims and batch. */
    private static List<Problem> problems() {
        List<Problem> problems = new ArrayList<>();
        int masks = masks(1, new Random(0)).size();
        for (int i = 0; i < masks * PROBLEMS_PER_MASK; i++) {
            Random random = new Random(i);
            int length = LENGTHS[(i / masks + 3 * (i % masks)) % LENGTHS.length];
            int[] heads = HEADS[random.nextInt(HEADS.length)];
            int[] dims = DIMS[random.nextInt(DIMS.length)];
            int batch = 1 + random.nextInt(3);
            AttentionShape shape = new AttentionShape(batch, heads[0], heads[1], dims[0], dims[1], DType.FLOAT64);
            problems.add(Problem.of(shape, length, masks(length, random).get(i % masks), i));
        }
        return problems;
    }

    /** Returns all cases; those of one problem follow each other and share the instance. */
    static List<GridCase> all() {
        List<GridCase> cases = new ArrayList<>();
        for (Problem problem : problems()) {
            int length = problem.queryLength();
            long[] documents = problem.mask().cuSeqlens();
            for (int world : WORLDS) {
                for (Layout.Policy policy : Layout.Policy.values()) {
                    cases.add(next(cases, problem, policy.toString(), Layout.of(policy, length, world)));
                }
                if (documents != null && documents[documents.length - 1] == length) {
                    cases.add(next(
                            cases, problem, "zigzag by document", Layout.of(Layout.Policy.ZIGZAG, documents, world)));
                }
            }
        }
        return cases;
    }

    private static GridCase next(List<GridCase> cases, Problem problem, String layoutName, Layout layout) {
        int number = cases.size();
        return new GridCase(
                number, problem, layoutName, layout, Placement.values()[number % Placement.values().length]);
    }

    @Override
    public String toString() {
        return "case " + number + ": " + problem + ", " + layoutName + " over " + layout.worldSize() + ", " + placement;
    }

    /** Returns the command that runs this case alone. */
    String replay() {
        return this + "; replay: mvn test -Dtest=GridTest -Dflashring.case=" + number;
    }
}
