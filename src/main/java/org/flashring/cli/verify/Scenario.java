package org.flashring.cli.verify;

import java.util.Locale;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.plan.Problem;

/**
 * What one case runs.
 *
 * @param index number of the case
 * @param shape shape and element type
 * @param layout how the sequence is sharded
 * @param mask who sees whom
 * @param score how scores are made
 * @param options wire type
 * @param headsFirst whether tensors lie as [batch, heads, length, dim] in memory
 * @param gradients element type of dq, dk and dv
 */
record Scenario(
        int index,
        AttentionShape shape,
        Layout layout,
        Mask mask,
        Score score,
        AttentionOptions options,
        boolean headsFirst,
        DType gradients) {
    /** Returns the same problem in float64 on one rank. */
    Scenario exact() {
        AttentionShape wide = new AttentionShape(
                shape.batch(), shape.queryHeads(), shape.kvHeads(), shape.headDim(), shape.valueDim(), DType.FLOAT64);
        return new Scenario(
                index,
                wide,
                Layout.contiguous(layout.length(), 1),
                mask,
                score,
                AttentionOptions.defaults(),
                false,
                DType.FLOAT64);
    }

    Problem problem() {
        return Problem.of(shape, layout, mask).with(score);
    }

    int length() {
        return (int) layout.length();
    }

    double scale() {
        return 1 / Math.sqrt(shape.headDim());
    }

    @Override
    public String toString() {
        return shape + ", " + layout + ", " + mask + ", " + score + (headsFirst ? ", heads first" : "")
                + ", gradients " + gradients.name().toLowerCase(Locale.ROOT)
                + (options.wireDType() == null
                        ? ""
                        : ", wire " + options.wireDType().name().toLowerCase(Locale.ROOT));
    }
}
