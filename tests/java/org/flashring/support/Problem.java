package org.flashring.support;

import java.util.Random;
import org.flashring.AttentionShape;
import org.flashring.DType;

/**
 * One attention problem over a whole sequence. Its random inputs follow from the seed alone.
 *
 * @param scale softmax scale; NaN for 1 / sqrt(headDim)
 */
public record Problem(AttentionShape shape, int queryLength, int keyLength, MaskRule mask, double scale, long seed) {

    /** Returns self-attention over {@code length} tokens with the default scale. */
    public static Problem of(AttentionShape shape, int length, MaskRule mask, long seed) {
        return new Problem(shape, length, length, mask, Double.NaN, seed);
    }

    /** Returns the same problem with inputs rounded to {@code dtype}. */
    public Problem in(DType dtype) {
        AttentionShape other = new AttentionShape(
                shape.batch(), shape.queryHeads(), shape.kvHeads(), shape.headDim(), shape.valueDim(), dtype);
        return new Problem(other, queryLength, keyLength, mask, scale, seed);
    }

    /** Dense [batch, length, heads, dim] values, representable in the problem's type. */
    public record Inputs(double[] q, double[] k, double[] v, double[] dout) {}

    /** Returns standard normal inputs. */
    public Inputs inputs() {
        return new Inputs(
                random(0, queryElements(shape.headDim())),
                random(1, keyElements(shape.headDim())),
                random(2, keyElements(shape.valueDim())),
                random(3, queryElements(shape.valueDim())));
    }

    /** Returns {@code count} standard normal numbers, rounded to the problem's type. */
    private double[] random(int stream, int count) {
        Random random = new Random(4 * seed + stream);
        double[] values = new double[count];
        for (int i = 0; i < count; i++) {
            values[i] = Elements.round(shape.dtype(), random.nextGaussian());
        }
        return values;
    }

    /** Returns the number of elements of a tensor over the queries whose heads have {@code dim} elements. */
    public int queryElements(long dim) {
        return Math.toIntExact(shape.batch() * queryLength * shape.queryHeads() * dim);
    }

    /** Returns the number of elements of a tensor over the keys whose heads have {@code dim} elements. */
    public int keyElements(long dim) {
        return Math.toIntExact(shape.batch() * keyLength * shape.kvHeads() * dim);
    }

    /** Returns the scale itself. */
    public double effectiveScale() {
        return Double.isNaN(scale) ? 1 / Math.sqrt(shape.headDim()) : scale;
    }

    @Override
    public String toString() {
        return shape + " S" + queryLength + (keyLength == queryLength ? "" : "/" + keyLength) + " " + mask
                + (Double.isNaN(scale) ? "" : " scale " + scale) + " seed " + seed;
    }
}
