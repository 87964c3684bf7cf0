package org.flashring.cli.train.dense;

import java.util.Arrays;
import org.flashring.sync.ShardedBatch;

/**
 * The block of a rank's share of a batch, int64: token ids, labels, positions, then the tokens' rows in order of their
 * ids and where each id begins among them.
 */
final class BatchBlock {
    private static final int IDS = 32; // bits of a row's number behind its id

    private final long address;
    private final int tokens;
    private final int vocabulary;
    private final long[] order; // id, then row
    private final long[] starts;
    private long segments;

    BatchBlock(long address, int tokens, int vocabulary) {
        this.address = address;
        this.tokens = tokens;
        this.vocabulary = vocabulary;
        this.order = new long[tokens];
        this.starts = new long[tokens + 1];
    }

    /** Returns the bytes of a block. */
    static long bytes(long tokens) {
        return (5 * tokens + 1) * Long.BYTES;
    }

    /**
     * Fills the block.
     *
     * @throws IllegalArgumentException if an id is none of the vocabulary
     */
    void fill(ShardedBatch batch, Staging staging) {
        long[] ids = batch.tokens();
        long[] labels = batch.labels();
        for (int i = 0; i < tokens; i++) {
            requireKnown("tokens", ids[i]);
            if (labels[i] != ShardedBatch.IGNORE_INDEX) {
                requireKnown("labels", labels[i]);
            }
            order[i] = ids[i] << IDS | i;
        }
        Arrays.sort(order);
        segments = 0;
        for (int i = 0; i < tokens; i++) {
            if (i == 0 || order[i] >>> IDS != order[i - 1] >>> IDS) {
                starts[(int) segments++] = i;
            }
        }
        starts[(int) segments] = tokens;
        for (int i = 0; i < tokens; i++) {
            order[i] &= (1L << IDS) - 1;
        }
        staging.putLongs(ids(), ids, tokens);
        staging.putLongs(labels(), labels, tokens);
        staging.putLongs(positions(), batch.positions(), tokens);
        staging.putLongs(order(), order, tokens);
        staging.putLongs(starts(), starts, (int) segments + 1);
    }

    private void requireKnown(String name, long id) {
        if (id < 0 || id >= vocabulary) {
            throw new IllegalArgumentException(
                    "a value of " + name + " is " + id + "; it must lie in [0, " + (vocabulary - 1) + "]");
        }
    }

    private long part(int number) {
        return address + (long) number * tokens * Long.BYTES;
    }

    long ids() {
        return part(0);
    }

    long labels() {
        return part(1);
    }

    long positions() {
        return part(2);
    }

    long order() {
        return part(3);
    }

    long starts() {
        return part(4);
    }

    /** Returns how many different ids there are. */
    long segments() {
        return segments;
    }
}
