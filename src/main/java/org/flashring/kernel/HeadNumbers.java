package org.flashring.kernel;

import java.util.List;
import org.flashring.DType;
import org.flashring.Score;
import org.flashring.Tensor;
import org.flashring.internal.NativeStructs;

/** What a native step has of each query head, one number each: sinks, their gradients and ALiBi slopes. */
final class HeadNumbers {
    private static final long PLANNED = 64; // an address that is followed by nobody, before there are any

    private final NativeStructs.Step step;
    private final DType dtype;
    private final List<Double> slopes;
    private long slopesAt; // addresses of those of head 0; 0 for none
    private long sinksAt;
    private long gradientsAt;

    /** Gives {@code step} the score, as it is planned: its numbers have no addresses yet. */
    HeadNumbers(NativeStructs.Step step, Score score, DType dtype) {
        this.step = step;
        this.dtype = dtype;
        this.slopes = score.alibiSlopes();
        this.slopesAt = slopes.isEmpty() ? 0 : PLANNED;
        this.sinksAt = score.sinks() ? PLANNED : 0;
        step.softcap(score.softcap());
        from(0);
    }

    /** Appends the slopes; {@link #move} says where they came to lie. */
    void add(Tables tables) {
        slopesAt = slopes.isEmpty() ? 0 : tables.add(packed());
    }

    void move(long base) {
        slopesAt += slopes.isEmpty() ? 0 : base;
    }

    /** Sets sinks and their gradients, each null for none, which begin with the step's head 0 at {@code firstHead}. */
    void bind(Tensor sinks, Tensor gradients, long firstHead) {
        sinksAt = address(sinks, firstHead);
        gradientsAt = address(gradients, firstHead);
    }

    private long address(Tensor of, long firstHead) {
        return of == null ? 0 : of.address() + firstHead * dtype.bytes();
    }

    /** Lets all begin at query head {@code first}. */
    void from(long first) {
        long bytes = first * dtype.bytes();
        step.sinks(sinksAt == 0 ? 0 : sinksAt + bytes);
        step.dsinks(gradientsAt == 0 ? 0 : gradientsAt + bytes);
        step.alibiSlopes(slopesAt == 0 ? 0 : slopesAt + bytes);
    }

    /** Returns the slopes as they lie in memory, in 64-bit words. */
    private long[] packed() {
        int perWord = Long.BYTES / dtype.bytes();
        long[] words = new long[(slopes.size() + perWord - 1) / perWord];
        for (int head = 0; head < slopes.size(); head++) {
            double slope = slopes.get(head);
            words[head / perWord] |= dtype == DType.FLOAT64
                    ? Double.doubleToRawLongBits(slope)
                    : Integer.toUnsignedLong(Float.floatToRawIntBits((float) slope)) << Integer.SIZE * (head % perWord);
        }
        return words;
    }
}
