package org.flashring.sync;

import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.internal.Checks;

/**
 * One rank's share of a batch for next-token training, cut after the labels were shifted, so that no target is lost
 * where one shard ends and the next begins. All arrays are row-major [batch, local length].
 *
 * <pre>
 *   tokens     a b c d e f | g h       two documents, shift 1, two ranks, contiguous
 *   labels     b c d e f . | h .       "." is {@link #IGNORE_INDEX}: the last token of a document has no next one
 *   positions  0 1 2 3 4 5 | 0 1       within the document, as RoPE wants them
 *   rank 0 gets the first four columns of all three, rank 1 the last four
 * </pre>
 */
public final class ShardedBatch {
    /** The label of a token that has no target; PyTorch's cross entropy skips it by default. */
    public static final long IGNORE_INDEX = -100;

    private final int batch;
    private final int localLength;
    private final long[] tokens;
    private final long[] positions;
    private final long[] labels;
    private final long targets;

    private ShardedBatch(int batch, int localLength, long[] tokens, long[] positions, long[] labels) {
        this.batch = batch;
        this.localLength = localLength;
        this.tokens = tokens;
        this.positions = positions;
        this.labels = labels;
        long count = 0;
        for (long label : labels) {
            count += label == IGNORE_INDEX ? 0 : 1;
        }
        this.targets = count;
    }

    /** Returns the share of {@code rank} when every token's target is the next one of its document. */
    public static ShardedBatch of(long[][] tokens, Layout layout, Mask mask, int rank) {
        return of(tokens, tokens, 1, layout, mask, rank);
    }

    /**
     * Returns the share of {@code rank}.
     *
     * @param tokens [batch][layout.length()] token ids
     * @param targets [batch][layout.length()] unshifted targets, {@link #IGNORE_INDEX} where a token is not to be
     *     learnt; often {@code tokens} itself
     * @param shift how far ahead the target of a token lies, at least 1
     * @param layout which rank holds which token
     * @param mask whose documents, of each row where rows have their own, bound positions and targets
     * @param rank whose share
     * @throws IllegalArgumentException if an argument is null, a row has another length than the layout, or a size
     *     breaks a rule
     */
    public static ShardedBatch of(long[][] tokens, long[][] targets, int shift, Layout layout, Mask mask, int rank) {
        Checks.notNull("tokens", tokens);
        Checks.notNull("targets", targets);
        Checks.notNull("layout", layout);
        Checks.notNull("mask", mask);
        Checks.equal("layout.start", layout.start(), 0, "for a whole sequence is sharded");
        Checks.atLeast("shift", shift, 1);
        Checks.atLeast("tokens.length", tokens.length, 1);
        if (mask.rows() > 0) {
            Checks.equal("tokens.length", tokens.length, mask.rows(), "the rows that the mask has documents of");
        }
        if (mask.keyCuSeqlens() != null) {
            throw Checks.broken("mask", mask, "have one list of documents, for tokens learn from their own document");
        }
        Checks.equal("targets.length", targets.length, tokens.length, "as many rows as tokens");
        for (int row = 0; row < tokens.length; row++) {
            Checks.equal(
                    "tokens[" + row + "].length",
                    Checks.notNull("tokens[" + row + "]", tokens[row]).length,
                    layout.length(),
                    "the layout's length");
            Checks.equal(
                    "targets[" + row + "].length",
                    Checks.notNull("targets[" + row + "]", targets[row]).length,
                    layout.length(),
                    "the layout's length");
        }
        Positions held = layout.positions(rank);
        int length = Math.toIntExact(held.length());
        int elements = Math.multiplyExact(tokens.length, length);
        long[] localTokens = new long[elements];
        long[] localPositions = new long[elements];
        long[] localLabels = new long[elements];
        long[] cuSeqlens = null;
        for (int row = 0; row < tokens.length; row++) {
            if (row == 0 || mask.rows() > 0) {
                long[] documents = mask.ofRow(row).cuSeqlens(); // a copy
                cuSeqlens = documents == null ? new long[] {0, layout.length()} : documents;
            }
            int document = 0;
            for (int i = 0; i < length; i++) {
                int position = (int) held.position(i);
                while (document + 1 < cuSeqlens.length && cuSeqlens[document + 1] <= position) {
                    document++;
                }
                boolean outside = document + 1 == cuSeqlens.length; // past every document: sees nothing, learns nothing
                long target = (long) position + shift;
                boolean hasTarget = !outside && target < Math.min(cuSeqlens[document + 1], layout.length());
                int at = row * length + i;
                localTokens[at] = tokens[row][position];
                localPositions[at] = position - cuSeqlens[document];
                localLabels[at] = hasTarget ? targets[row][(int) target] : IGNORE_INDEX;
            }
        }
        return new ShardedBatch(tokens.length, length, localTokens, localPositions, localLabels);
    }

    /** Returns the number of rows. */
    public int batch() {
        return batch;
    }

    /** Returns the number of tokens of each row that this rank holds. */
    public int localLength() {
        return localLength;
    }

    /** Returns the token ids. */
    public long[] tokens() {
        return tokens.clone();
    }

    /** Returns each token's position within its document. */
    public long[] positions() {
        return positions.clone();
    }

    /** Returns each token's target, or {@link #IGNORE_INDEX}. */
    public long[] labels() {
        return labels.clone();
    }

    /** Returns the number of labels that are not {@link #IGNORE_INDEX}. */
    public long targets() {
        return targets;
    }
}
