package org.flashring.robustness;

import static org.flashring.robustness.BadCase.argument;
import static org.flashring.robustness.BadCase.state;

import java.util.List;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.sync.GradientSync;
import org.flashring.sync.Labels;
import org.flashring.sync.ShardedBatch;
import org.flashring.sync.TokenLoss;

/** Arguments of batches, losses and gradient sums that break a rule. Addresses are never followed. */
final class BadSync {
    private static final DType F32 = DType.FLOAT32;
    private static final long A = 1 << 12;
    private static final long[][] TOKENS = new long[2][8];
    private static final Layout LAYOUT = Layout.contiguous(8, 2);
    private static final Mask MASK = Mask.causal();

    private BadSync() {}

    @FunctionalInterface
    private interface Use<T> {
        void of(T resource);
    }

    private static ThrowingCallable gradients(DType dtype, long[] counts, long bucketBytes, Use<GradientSync> use) {
        return () -> {
            try (Communicator alone = LocalGroup.single();
                    GradientSync sync = new GradientSync(alone, dtype, counts, bucketBytes)) {
                use.of(sync);
            }
        };
    }

    private static ThrowingCallable gradients(DType dtype, long[] counts, long bucketBytes) {
        return gradients(dtype, counts, bucketBytes, sync -> {});
    }

    /** Two gradients, each in a bucket of its own. */
    private static ThrowingCallable gradients(Use<GradientSync> use) {
        return gradients(F32, new long[] {4, 5}, 4, use);
    }

    private static ThrowingCallable loss(Use<TokenLoss> use) {
        return () -> {
            try (Communicator alone = LocalGroup.single();
                    TokenLoss loss = new TokenLoss(alone)) {
                use.of(loss);
            }
        };
    }

    private static ThrowingCallable batch(
            long[][] tokens, long[][] targets, int shift, Layout layout, Mask mask, int rank) {
        return () -> ShardedBatch.of(tokens, new Labels(targets, shift, layout, mask), rank);
    }

    static List<BadCase> cases() {
        return List.of(
                argument(
                        "gradients: communicator null",
                        () -> new GradientSync(null, F32, new long[] {4}, 64).close(),
                        "communicator",
                        null),
                argument("gradients: dtype null", gradients(null, new long[] {4}, 64), "dtype", null),
                argument("gradients: counts null", gradients(F32, null, 64), "counts", null),
                argument("gradients: no parameters", gradients(F32, new long[0], 64), "counts.length", 0),
                argument("gradients: an empty parameter", gradients(F32, new long[] {4, 0}, 64), "counts[1]", 0),
                argument("gradients: a negative parameter", gradients(F32, new long[] {-4, 2}, 64), "counts[0]", -4),
                argument(
                        "gradients: bytes overflow",
                        gradients(F32, new long[] {Long.MAX_VALUE / 2}, 64),
                        "bytes",
                        Long.MAX_VALUE / 2),
                argument("gradients: no bucket", gradients(F32, new long[] {4}, 0), "bucketBytes", 0),
                argument("gradients: negative bucket", gradients(F32, new long[] {4}, -64), "bucketBytes", -64),
                argument("gradients: parameter below 0", gradients(sync -> sync.ready(-1, A)), "parameter", -1),
                argument("gradients: parameter beyond the last", gradients(sync -> sync.ready(2, A)), "parameter", 2),
                argument("gradients: address null", gradients(sync -> sync.ready(1, 0)), "address", 0),
                argument("gradients: address misaligned", gradients(sync -> sync.ready(1, A + 1)), "address", A + 1),
                state(
                        "gradients: ready twice",
                        gradients(sync -> {
                            sync.ready(0, A);
                            sync.ready(0, A);
                        }),
                        "gradient 0",
                        "before"),
                state("gradients: finished too early", gradients(GradientSync::finish), "gradient 0 of 2", "not ready"),
                state(
                        "gradients: ready after close",
                        gradients(sync -> {
                            sync.close();
                            sync.ready(0, A);
                        }),
                        "closed"),
                state(
                        "gradients: finished after close",
                        gradients(sync -> {
                            sync.close();
                            sync.finish();
                        }),
                        "closed"),
                argument("loss: communicator null", () -> new TokenLoss(null).close(), "communicator", null),
                argument("loss: negative targets", loss(loss -> loss.totalTargets(-1)), "localTargets", -1),
                argument("loss: mean over no targets", loss(loss -> loss.mean(1, 0)), "totalTargets", 0),
                state(
                        "loss: targets after close",
                        loss(loss -> {
                            loss.close();
                            loss.totalTargets(1);
                        }),
                        "closed"),
                state(
                        "loss: mean after close",
                        loss(loss -> {
                            loss.close();
                            loss.mean(1, 1);
                        }),
                        "closed"),
                argument("batch: tokens null", batch(null, TOKENS, 1, LAYOUT, MASK, 0), "tokens", null),
                argument("batch: targets null", batch(TOKENS, null, 1, LAYOUT, MASK, 0), "targets", null),
                argument("batch: layout null", batch(TOKENS, TOKENS, 1, null, MASK, 0), "layout", null),
                argument("batch: mask null", batch(TOKENS, TOKENS, 1, LAYOUT, null, 0), "mask", null),
                argument("batch: no rows", batch(new long[0][], new long[0][], 1, LAYOUT, MASK, 0), "tokens.length", 0),
                argument(
                        "batch: rows of targets missing",
                        batch(TOKENS, new long[1][8], 1, LAYOUT, MASK, 0),
                        "targets.length",
                        1),
                argument("batch: a row null", batch(new long[2][], TOKENS, 1, LAYOUT, MASK, 0), "tokens[0]", null),
                argument(
                        "batch: a row of targets null",
                        batch(TOKENS, new long[2][], 1, LAYOUT, MASK, 0),
                        "targets[0]",
                        null),
                argument(
                        "batch: a row too short",
                        batch(new long[][] {new long[8], new long[7]}, TOKENS, 1, LAYOUT, MASK, 0),
                        "tokens[1].length",
                        7),
                argument(
                        "batch: a row of targets too long",
                        batch(TOKENS, new long[2][9], 1, LAYOUT, MASK, 0),
                        "targets[0].length",
                        9),
                argument("batch: no shift", batch(TOKENS, TOKENS, 0, LAYOUT, MASK, 0), "shift", 0),
                argument("batch: negative shift", batch(TOKENS, TOKENS, -1, LAYOUT, MASK, 0), "shift", -1),
                argument("batch: rank below 0", batch(TOKENS, TOKENS, 1, LAYOUT, MASK, -1), "rank", -1),
                argument("batch: rank beyond the world", batch(TOKENS, TOKENS, 1, LAYOUT, MASK, 2), "rank", 2));
    }
}
