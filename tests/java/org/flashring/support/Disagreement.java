package org.flashring.support;

import java.util.List;
import java.util.Random;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Score;
import org.flashring.plan.Gather;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;

/**
 * Two plans that ranks must not run together.
 *
 * @param usual rank 0's
 * @param other rank 2's
 * @param named what the error must say
 * @param silent whether both move the same bytes in every step of forward, so that nothing else would tell
 */
public record Disagreement(Plan usual, Plan other, String named, boolean silent) {
    /** The number of ranks that the plans are for. */
    public static final int WORLD = 3;

    private static final long LENGTH = 24;
    private static final AttentionShape SHAPE = AttentionShape.of(1, 4, 2, 8, DType.FLOAT32);
    private static final AttentionShape NARROW = AttentionShape.of(1, 4, 2, 8, DType.BFLOAT16);
    private static final Layout LAYOUT = Layout.zigzag(LENGTH, WORLD);
    private static final AttentionOptions OPTIONS = AttentionOptions.defaults();
    private static final Plan USUAL = Plan.of(SHAPE, LAYOUT, Mask.causal(), OPTIONS);

    @Override
    public String toString() {
        return named;
    }

    private static Disagreement silent(Plan usual, Plan other, String named) {
        return new Disagreement(usual, other, named, true);
    }

    private static Disagreement shape(AttentionShape shape, String named) {
        return new Disagreement(USUAL, Plan.of(shape, LAYOUT, Mask.causal(), OPTIONS), named, false);
    }

    private static Disagreement masks(Mask usual, Mask other, String named) {
        return silent(Plan.of(SHAPE, LAYOUT, usual, OPTIONS), Plan.of(SHAPE, LAYOUT, other, OPTIONS), named);
    }

    private static Disagreement options(AttentionShape shape, AttentionOptions other, String named) {
        return silent(
                Plan.of(shape, LAYOUT, Mask.causal(), OPTIONS), Plan.of(shape, LAYOUT, Mask.causal(), other), named);
    }

    private static Disagreement queries(Layout usual, Layout other, String named) {
        return silent(
                Plan.of(SHAPE, usual, LAYOUT, Mask.full(), OPTIONS),
                Plan.of(SHAPE, other, LAYOUT, Mask.full(), OPTIONS),
                named);
    }

    private static Plan rows(long[]... cuSeqlens) {
        AttentionShape shape = AttentionShape.of(cuSeqlens.length, 4, 2, 8, DType.FLOAT32);
        return Plan.of(shape, LAYOUT, Mask.causal().packedRows(cuSeqlens), OPTIONS);
    }

    /** Returns three pieces of the sequence, cut at two positions. */
    private static Layout own(long first, long second) {
        return Layout.of(List.of(
                Positions.contiguous(0, first),
                Positions.contiguous(first, second - first),
                Positions.contiguous(second, LENGTH - second)));
    }

    private static Disagreement scores(Score usual, Score other, String named) {
        org.flashring.plan.Problem problem = org.flashring.plan.Problem.of(SHAPE, LAYOUT, Mask.causal());
        return silent(
                Plan.of(problem.with(usual), new Ring(), OPTIONS),
                Plan.of(problem.with(other), new Ring(), OPTIONS),
                named);
    }

    private static org.flashring.plan.Problem problem(AttentionShape shape, Layout layout, Mask mask, double scale) {
        return org.flashring.plan.Problem.of(shape, layout, mask).with(Score.scaledBy(scale));
    }

    /** Returns one of every kind. */
    public static List<Disagreement> all() {
        Mask documents = Mask.causal().documents(0, 10, 24);
        return List.of(
                masks(Mask.causal(), Mask.full(), "mask is full on rank 2, causal on rank 0"),
                masks(
                        Mask.causal(),
                        Mask.causal().window(20, 0),
                        "mask is causal, left 20 on rank 2, causal on rank 0"),
                masks(
                        Mask.causal().window(20, 0),
                        Mask.causal().window(21, 0),
                        "mask is causal, left 21 on rank 2, causal, left 20 on rank 0"),
                masks(
                        documents,
                        Mask.causal().documents(0, 11, 24),
                        "mask: cuSeqlens[1] is 11 on rank 2, 10 on rank 0"),
                masks(
                        documents,
                        Mask.causal().documents(0, 10, 12, 24),
                        "mask is causal, 3 documents on rank 2, causal, 2 documents on rank 0"),
                masks(
                        documents,
                        Mask.causal().documents(0, 10, 23),
                        "mask: cuSeqlens[2] is 23 on rank 2, 24 on rank 0"),
                // one hash: 3 * 31 + 50 = 4 * 31 + 19
                masks(
                        Mask.causal().documents(0, 3, 50, 60),
                        Mask.causal().documents(0, 4, 19, 60),
                        "mask: cuSeqlens[1] is 4 on rank 2, 3 on rank 0"),
                masks(
                        documents,
                        documents.prefix(2, 3),
                        "mask is causal, 2 documents, prefix on rank 2, causal, 2 documents on rank 0"),
                masks(
                        documents.prefix(2, 3),
                        documents.prefix(2, 4),
                        "mask: prefixLengths[1] is 4 on rank 2, 3 on rank 0"),
                queries(
                        LAYOUT,
                        Layout.striped(LENGTH, WORLD),
                        "layout of the queries is striped 24 tokens over 3 ranks on rank 2, zigzag 24 tokens"
                                + " over 3 ranks on rank 0"),
                queries(
                        LAYOUT,
                        LAYOUT.startingAt(4),
                        "layout of the queries is zigzag 24 tokens from 4 on over 3 ranks on rank 2"),
                queries(
                        Layout.of(Layout.Policy.ZIGZAG, new long[] {0, 12, 24}, WORLD),
                        Layout.of(Layout.Policy.ZIGZAG, new long[] {0, 6, 24}, WORLD),
                        "layout of the queries: cuSeqlens[1] is 6 on rank 2, 12 on rank 0"),
                masks(
                        documents,
                        Mask.causal().documents(new long[] {0, 10, 24}, new long[] {0, 9, 24}),
                        "mask is causal, 2 documents of queries and of keys on rank 2, causal, 2 documents on rank 0"),
                masks(
                        Mask.causal().documents(new long[] {0, 9, 24}, new long[] {0, 10, 24}),
                        Mask.causal().documents(new long[] {0, 9, 24}, new long[] {0, 11, 24}),
                        "mask: keyCuSeqlens[1] is 11 on rank 2, 10 on rank 0"),
                silent(
                        rows(new long[] {0, 5, 24}, new long[] {0, 10, 24}),
                        rows(new long[] {0, 5, 24}, new long[] {0, 11, 24}),
                        "mask: cuSeqlens of row 1[1] is 11 on rank 2, 10 on rank 0"),
                queries(
                        LAYOUT,
                        own(8, 16),
                        "layout of the queries is own positions of 24 tokens over 3 ranks on rank 2, zigzag 24"
                                + " tokens over 3 ranks on rank 0"),
                queries(
                        own(8, 16),
                        own(8, 15),
                        "layout of the queries: positions of rank 1[1] is 7 on rank 2, 8 on rank 0"),
                silent(
                        USUAL,
                        Plan.of(SHAPE, LAYOUT, Layout.contiguous(LENGTH, WORLD), Mask.causal(), OPTIONS),
                        "layout of the keys is contiguous 24 tokens over 3 ranks on rank 2, zigzag 24 tokens"
                                + " over 3 ranks on rank 0"),
                silent(
                        USUAL,
                        Plan.of(problem(SHAPE, LAYOUT, Mask.causal(), 0.5), new Ring(), OPTIONS),
                        "softmaxScale is 0.5 on rank 2, 0.3535"),
                scores(Score.standard(), Score.standard().withSoftcap(30), "softcap is 30.0 on rank 2, 0.0 on rank 0"),
                scores(
                        Score.standard().withAlibi(0.5, 0.25, 0.125, 0.0625),
                        Score.standard().withAlibi(0.5, 0.25, 0.2, 0.0625),
                        "alibiSlopes[2] is 0.2 on rank 2, 0.125 on rank 0"),
                scores(
                        Score.standard().withAlibi(0.5, 0.25, 0.125, 0.0625),
                        Score.standard(),
                        "alibiSlopes is not given on rank 2"),
                new Disagreement(
                        USUAL,
                        Plan.of(org.flashring.plan.Problem.of(SHAPE, LAYOUT, Mask.causal()), new Gather(2), OPTIONS),
                        "strategy is gather of 2 heads on rank 2, ring on rank 0",
                        false),
                options(SHAPE, OPTIONS.forwardOnly(), "backward is false on rank 2, true on rank 0"),
                options(SHAPE, OPTIONS.asDeterministic(), "deterministic is true on rank 2, false on rank 0"),
                options(SHAPE, OPTIONS.withKernel(Kernel.REFERENCE), "kernel is REFERENCE on rank 2, AUTO on rank 0"),
                options(
                        NARROW,
                        OPTIONS.withWireDType(DType.BFLOAT16),
                        "wireDType is BFLOAT16 on rank 2, FLOAT32 on rank 0"),
                silent(
                        Plan.of(NARROW, LAYOUT, Mask.causal(), OPTIONS),
                        Plan.of(AttentionShape.of(1, 4, 2, 8, DType.FLOAT16), LAYOUT, Mask.causal(), OPTIONS),
                        "dtype is FLOAT16 on rank 2, BFLOAT16 on rank 0"),
                silent(
                        Plan.of(new AttentionShape(1, 4, 2, 8, 4, DType.FLOAT32), LAYOUT, Mask.causal(), OPTIONS),
                        Plan.of(new AttentionShape(1, 4, 2, 4, 8, DType.FLOAT32), LAYOUT, Mask.causal(), OPTIONS),
                        "headDim is 4 on rank 2, 8 on rank 0"),
                silent(
                        USUAL,
                        Plan.of(AttentionShape.of(2, 4, 1, 8, DType.FLOAT32), LAYOUT, Mask.causal(), OPTIONS),
                        "batch is 2 on rank 2, 1 on rank 0"),
                silent(
                        USUAL,
                        Plan.of(AttentionShape.of(1, 8, 2, 8, DType.FLOAT32), LAYOUT, Mask.causal(), OPTIONS),
                        "queryHeads is 8 on rank 2, 4 on rank 0"),
                shape(AttentionShape.of(1, 4, 4, 8, DType.FLOAT32), "kvHeads is 4 on rank 2, 2 on rank 0"),
                shape(new AttentionShape(1, 4, 2, 8, 16, DType.FLOAT32), "valueDim is 16 on rank 2, 8 on rank 0"),
                new Disagreement(
                        USUAL,
                        Plan.of(SHAPE, Layout.zigzag(LENGTH + 1, WORLD), Mask.causal(), OPTIONS),
                        "layout of the queries is zigzag 25 tokens over 3 ranks on rank 2, zigzag 24 tokens over"
                                + " 3 ranks on rank 0",
                        false));
    }

    /** Returns a plan that follows from the seed alone: packed documents, as training makes one for every batch. */
    public static Plan random(long seed) {
        Random random = new Random(seed);
        long[] cuSeqlens = new long[2 + random.nextInt(40)];
        for (int i = 1; i < cuSeqlens.length; i++) {
            cuSeqlens[i] = cuSeqlens[i - 1] + random.nextInt(20);
        }
        Layout layout = Layout.of(Layout.Policy.values()[random.nextInt(3)], cuSeqlens, WORLD);
        Mask mask = Mask.full().window(random.nextInt(30) - 1, random.nextInt(3) - 1);
        double scale = random.nextBoolean() ? 0.25 : random.nextDouble() + 0.01;
        AttentionShape shape = AttentionShape.of(
                1 + random.nextInt(2),
                2,
                1 + random.nextInt(2),
                8,
                random.nextBoolean() ? DType.BFLOAT16 : DType.FLOAT32);
        return Plan.of(
                problem(shape, layout, random.nextBoolean() ? mask.documents(cuSeqlens) : mask, scale),
                new Ring(),
                random.nextBoolean() ? OPTIONS : OPTIONS.forwardOnly());
    }
}
