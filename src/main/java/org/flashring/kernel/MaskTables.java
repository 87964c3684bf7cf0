package org.flashring.kernel;

import org.flashring.Mask;
import org.flashring.internal.NativeStructs;

/**
 * A mask as the native step has it: one for all rows of a batch, or one for each, which then is a launch of its own.
 */
final class MaskTables {
    private final Mask mask;
    private final long[] cuSeqlens; // addresses, 0 for none; one for each launch
    private final long[] prefixLengths;

    MaskTables(Mask mask) {
        this.mask = mask;
        int launches = Math.max(1, mask.rows());
        this.cuSeqlens = new long[launches];
        this.prefixLengths = new long[launches];
    }

    /** Returns whether each row of the batch is a launch of its own. */
    boolean byRow() {
        return mask.rows() > 0;
    }

    /** Returns how many launches a step takes. */
    int launches() {
        return cuSeqlens.length;
    }

    /** Appends what the masks point at; {@link #move} says where it came to lie. */
    void add(Tables tables) {
        for (int launch = 0; launch < launches(); launch++) {
            SharedLine line = new SharedLine(mask.ofRow(launch));
            cuSeqlens[launch] = tables.add(line.cuSeqlens());
            prefixLengths[launch] = tables.add(line.prefixLengths());
        }
    }

    void move(long base) {
        for (int launch = 0; launch < launches(); launch++) {
            cuSeqlens[launch] += base;
            prefixLengths[launch] += base;
        }
    }

    /** Sets the mask of a launch. */
    void set(NativeStructs.MaskView view, int launch) {
        Mask of = mask.ofRow(launch);
        view.left(of.left()).right(of.right());
        view.cuSeqlens(of.hasDocuments() ? cuSeqlens[launch] : 0).documents(of.hasDocuments() ? of.documentCount() : 0);
        view.prefixLengths(of.hasPrefix() ? prefixLengths[launch] : 0);
    }
}
