package org.flashring.cli.verify;

import java.util.Locale;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;

/**
 * What one case runs.
 *
 * @param index number of the case
 * @param shape shape and element type
 * @param layout how the sequence is sharded
 * @param mask who sees whom
 * @param options wire type
 * @param headsFirst whether tensors lie as [batch, heads, length, dim] in memory
 * @param gradients element type of dq, dk and dv
 */
record Scenario(
        int index,
        AttentionShape shape,
        Layout layout,
        Mask mask,
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
                AttentionOptions.defaults(),
                false,
                DType.FLOAT64);
    }

    int length() {
        return (int) layout.length();
    }

    double scale() {
        return 1 / Math.sqrt(shape.headDim());
    }

    @Override
    public String toString() {
        return shape + ", " + layout + ", " + mask + (headsFirst ? ", heads first" : "")
                + ", gradients " + gradients.name().toLowerCase(Locale.ROOT)
                + (options.wireDType() == null
                        ? ""
                        : ", wire " + options.wireDType().name().toLowerCase(Locale.ROOT));
    }
}
