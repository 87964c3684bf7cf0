package org.flashring;

import java.util.Arrays;
import java.util.List;
import org.flashring.internal.Checks;

/**
 * How a score comes of the product of a query and a key, in this order: times {@code softmaxScale}; bounded by the
 * softcap c, as c · tanh(s / c); less the ALiBi slope of its head times the distance of query and key. A sink is one
 * more score of a head that every query sees and that has no value.
 *
 * @param softmaxScale factor of the product, 1e-37 to 1e37, for float64 1e-307 to 1e307; NaN stands for 1 /
 *     sqrt(headDim)
 * @param softcap bound of scores before ALiBi, in the same range (Gemma 2, Gemma Team 2024); 0 for none
 * @param sinks whether each query head has a sink, which {@link org.flashring.attention.Forward#sinks} are (gpt-oss,
 *     OpenAI 2025; Xiao et al. 2024): they are part of the softmax's denominator and so of the lse
 * @param alibiSlopes slope of each query head, at least 0, at most 1e37, for float64 1e307, and finite times the
 *     longest distance; empty for no ALiBi (Press, Smith, Lewis 2022). Distances are between global positions, of
 *     whatever rank they are; where documents have keys of their own, between positions on the line on which a
 *     document's queries and keys end together. Slopes are rounded to the accumulator type
 */
public record Score(double softmaxScale, double softcap, boolean sinks, List<Double> alibiSlopes) {
    private static final Score DEFAULT = new Score(Double.NaN, 0, false, List.of());

    /**
     * @throws IllegalArgumentException unless the scale is NaN or positive and finite, the softcap at least 0 and
     *     finite, and so each slope
     */
    public Score {
        if (softmaxScale <= 0 || Double.isInfinite(softmaxScale)) {
            throw scaleBroken(softmaxScale);
        }
        if (!(softcap >= 0) || Double.isInfinite(softcap)) {
            throw Checks.broken("softcap", softcap, "be finite and at least 0, for none");
        }
        softcap += 0.0; // -0.0 becomes 0.0, the same number in other bits
        alibiSlopes = List.copyOf(Checks.notNull("alibiSlopes", alibiSlopes));
        for (int head = 0; head < alibiSlopes.size(); head++) {
            double slope = alibiSlopes.get(head);
            if (!(slope >= 0) || Double.isInfinite(slope)) {
                throw Checks.broken("alibiSlopes[" + head + "]", slope, "be finite and at least 0");
            }
        }
        alibiSlopes = alibiSlopes.stream().map(slope -> slope + 0.0).toList();
    }

    /** Returns products times 1 / sqrt(headDim). */
    public static Score standard() {
        return DEFAULT;
    }

    /**
     * Returns products times {@code softmaxScale}.
     *
     * @throws IllegalArgumentException unless the scale is positive and finite
     */
    public static Score scaledBy(double softmaxScale) {
        if (Double.isNaN(softmaxScale)) {
            throw scaleBroken(softmaxScale);
        }
        return new Score(softmaxScale, 0, false, List.of());
    }

    /**
     * Returns this score bounded by {@code bound}; 0 bounds nothing.
     *
     * @throws IllegalArgumentException unless it is finite and at least 0
     */
    public Score withSoftcap(double bound) {
        return new Score(softmaxScale, bound, sinks, alibiSlopes);
    }

    /** Returns this score with a sink for each query head, whose values come with the operands of each call. */
    public Score withSinks() {
        return new Score(softmaxScale, softcap, true, alibiSlopes);
    }

    /**
     * Returns this score with ALiBi.
     *
     * @param slopes one for each query head
     * @throws IllegalArgumentException unless each is finite and at least 0
     */
    public Score withAlibi(double... slopes) {
        Checks.notNull("slopes", slopes);
        return new Score(
                softmaxScale, softcap, sinks, Arrays.stream(slopes).boxed().toList());
    }

    private static IllegalArgumentException scaleBroken(double scale) {
        return Checks.broken("softmaxScale", scale, "be positive and finite");
    }

    /** Returns the factor for {@code shape}: the one given, or else 1 / sqrt(headDim). */
    public double scaleFor(AttentionShape shape) {
        return Double.isNaN(softmaxScale) ? 1 / Math.sqrt(shape.headDim()) : softmaxScale;
    }

    /** Returns the score of {@code count} query heads from {@code first} on. */
    public Score ofHeads(long first, long count) {
        return alibiSlopes.isEmpty()
                ? this
                : new Score(softmaxScale, softcap, sinks, alibiSlopes.subList((int) first, (int) (first + count)));
    }

    @Override
    public String toString() {
        StringBuilder text = new StringBuilder(Double.isNaN(softmaxScale) ? "standard scale" : "scale " + softmaxScale);
        text.append(softcap > 0 ? ", softcap " + softcap : "");
        text.append(sinks ? ", sinks" : "");
        text.append(alibiSlopes.isEmpty() ? "" : ", ALiBi");
        return text.toString();
    }
}
