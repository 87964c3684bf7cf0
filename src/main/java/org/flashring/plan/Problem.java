package org.flashring.plan;

import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.internal.Checks;

/**
 * What attention is asked for, whoever computes it in whatever steps.
 *
 * @param shape shape and element type
 * @param queries which rank holds which queries
 * @param keys which rank holds which keys and values
 * @param mask which keys each query sees
 * @param score how scores are made
 */
public record Problem(AttentionShape shape, Layout queries, Layout keys, Mask mask, Score score) {
    /**
     * @throws IllegalArgumentException if an argument is null, world sizes differ, the mask has rows but not those of
     *     the batch, sizes overflow, the scale or softcap is none that the accumulator type can hold, or there are
     *     ALiBi slopes of more or fewer heads, or slopes that are too large for it, alone or times the longest distance
     */
    public Problem {
        Checks.notNull("shape", shape);
        Checks.notNull("queries", queries);
        Checks.notNull("keys", keys);
        Checks.notNull("mask", mask);
        Checks.notNull("score", score);
        if (mask.rows() > 0) {
            Checks.equal("mask.rows", mask.rows(), shape.batch(), "the batch");
        }
        Checks.equal("keys.worldSize", keys.worldSize(), queries.worldSize(), "as that of the queries");
        long longest = Math.max(queries.length(), keys.length());
        long elements = Checks.product("batch * heads", shape.batch(), shape.queryHeads());
        elements = Checks.product("batch * heads * length", elements, Math.max(1, longest));
        Checks.product("bytes of a tensor", elements, 8 * Math.max(shape.headDim(), shape.valueDim()));
        requireRepresentable(
                "softmaxScale", score.scaleFor(shape), shape.dtype().accumulator());
        if (score.softcap() > 0) {
            requireRepresentable("softcap", score.softcap(), shape.dtype().accumulator());
        }
        if (!score.alibiSlopes().isEmpty()) {
            Checks.equal("alibiSlopes.size", score.alibiSlopes().size(), shape.queryHeads(), "the query heads");
            requireFinite(score, longestDistance(queries, keys), shape.dtype().accumulator());
        }
    }

    /** Returns self-attention over {@code layout} with the standard score. */
    public static Problem of(AttentionShape shape, Layout layout, Mask mask) {
        return new Problem(shape, layout, layout, mask, Score.standard());
    }

    /** Returns the same problem with another score. */
    public Problem with(Score newScore) {
        return new Problem(shape, queries, keys, mask, newScore);
    }

    /**
     * Throws unless scores in {@code type} can be multiplied by {@code factor}: powers of ten inside its normal
     * numbers.
     */
    private static void requireRepresentable(String name, double factor, DType type) {
        double least = type == DType.FLOAT64 ? 1e-307 : 1e-37;
        double most = most(type);
        if (factor < least || factor > most) {
            throw Checks.broken(name, factor, "be from " + least + " to " + most + " where scores are " + type);
        }
    }

    private static double most(DType type) {
        return type == DType.FLOAT64 ? 1e307 : 1e37;
    }

    /** Returns how far a query can be from a key. */
    private static long longestDistance(Layout queries, Layout keys) {
        if (queries.length() == 0 || keys.length() == 0) {
            return 0;
        }
        long end = Math.max(queries.start() + queries.length(), keys.start() + keys.length());
        return end - 1 - Math.min(queries.start(), keys.start());
    }

    private static void requireFinite(Score score, long distance, DType type) {
        for (int head = 0; head < score.alibiSlopes().size(); head++) {
            double slope = score.alibiSlopes().get(head);
            String name = "alibiSlopes[" + head + "]";
            if (slope > most(type)) {
                throw Checks.broken(name, slope, "be at most " + most(type) + " where scores are " + type);
            }
            double penalty = type == DType.FLOAT64 ? slope * distance : (float) slope * (float) distance;
            if (Double.isInfinite(penalty)) {
                throw Checks.broken(
                        name, slope, "be finite in " + type + " times " + distance + ", the longest distance");
            }
        }
    }

    /** Returns the number of ranks. */
    public int worldSize() {
        return queries.worldSize();
    }

    /** Returns the factor of the scores. */
    public double scale() {
        return score.scaleFor(shape);
    }

    /** Returns the elements of keys and values together in {@code rows} rows of {@code heads} key heads. */
    public long keyElements(long rows, long heads) {
        return shape.batch() * rows * heads * (shape.headDim() + shape.valueDim());
    }

    /** Returns whether any query of {@code rank} sees any key of {@code source}. */
    public boolean anyVisible(int rank, int source) {
        return Visibility.any(mask, queries.positions(rank), keys.positions(source));
    }
}
