package org.flashring.sync;

import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.internal.Checks;

/**
 * What the tokens of a batch are to learn, and how its rows are cut.
 *
 * @param targets [rows][layout.length()] unshifted targets, {@link ShardedBatch#IGNORE_INDEX} where a token is not to
 *     be learnt; often the tokens themselves; null for a stage of a pipeline that has no loss
 * @param shift how far ahead the target of a token lies, at least 1
 * @param layout which rank holds which token
 * @param mask whose documents, of each row where rows have their own, bound positions and targets
 */
public record Labels(long[][] targets, int shift, Layout layout, Mask mask) {
    /**
     * @throws IllegalArgumentException if layout or mask is null, the layout is not one of a whole sequence, the shift
     *     is less than 1, or the mask has other documents for keys than for queries
     */
    public Labels {
        Checks.notNull("layout", layout);
        Checks.notNull("mask", mask);
        Checks.equal("layout.start", layout.start(), 0, "for a whole sequence is sharded");
        Checks.atLeast("shift", shift, 1);
        if (mask.keyCuSeqlens() != null) {
            throw Checks.broken("mask", mask, "have one list of documents, for tokens learn from their own document");
        }
    }

    /** Returns those by which each token learns the next one of its document. */
    public static Labels next(long[][] tokens, Layout layout, Mask mask) {
        return new Labels(tokens, 1, layout, mask);
    }
}
