package org.flashring.robustness;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.LongConsumer;
import org.flashring.internal.Native;
import org.flashring.internal.NativeStructs.Step;
import org.flashring.internal.NativeStructs.TensorView;
import org.flashring.support.Capped;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * Random damage to several fields at a time. Sizes and strides are either small enough to stay within the memory there
 * is, or so large that no memory could hold them: what lies between is the caller's word against nobody's.
 */
@Capped
@Timeout(120)
class RawInterfaceFuzzTest {
    private static final int SEEDS = 10_000;
    private static final long[] SIZES = {0, 1, 2, 3, 4, 5, 6, 8, 1L << 57, Long.MAX_VALUE, -1, -2, Long.MIN_VALUE};
    private static final long[] STRIDES = {
        0, 1, 2, 5, 6, 8, 16, 40, 64, 256, 1L << 57, Long.MAX_VALUE, -1, Long.MIN_VALUE
    };
    private static final double[] SCALES = {0.1, 1e300, Double.MIN_VALUE, 0, -1, Double.NaN, Double.POSITIVE_INFINITY};

    @Test
    void anyDamageIsAnsweredWithAStatus() {
        int[] answers = new int[Native.OUT_OF_MEMORY + 1];
        try (RawStep raw = new RawStep()) {
            for (int seed = 0; seed < SEEDS; seed++) {
                Random random = new Random(seed);
                damage(raw, random);
                int status =
                        switch (random.nextInt(5)) {
                            case 0 -> Native.forwardStep(raw.step());
                            case 1 -> Native.backwardStep(raw.step());
                            case 2 -> Native.delta(raw.step());
                            case 3 -> Native.workspaceBytes(raw.step(), random.nextInt(4) - 1, new long[1]);
                            default -> Native.select(raw.step(), random.nextInt(4) - 1, new int[1]);
                        };
                assertThat(status).as("seed %d", seed).isIn(Native.OK, Native.INVALID_ARGUMENT, Native.UNSUPPORTED);
                if (status != Native.OK) {
                    assertThat(Native.lastError()).as("seed %d", seed).isNotBlank();
                }
                answers[status]++;
            }
        }
        assertThat(answers[Native.OK])
                .as("steps that ran in spite of the damage")
                .isGreaterThan(SEEDS / 20);
        assertThat(answers[Native.INVALID_ARGUMENT]).as("steps refused").isGreaterThan(SEEDS / 4);
    }

    private static void damage(RawStep raw, Random random) {
        Step step = raw.reset();
        List<Runnable> fields = new ArrayList<>();
        fields.add(
                () -> step.size(random.nextBoolean() ? random.nextInt() : step.sizeof() + 8 * (random.nextInt(3) - 1)));
        fields.add(() -> step.device(random.nextInt(4) - 2));
        fields.add(() -> step.dtype(random.nextInt(6) - 1));
        fields.add(() -> step.kernel(random.nextInt(8) - 1));
        fields.add(() -> step.flags(random.nextInt(20) == 0 ? random.nextInt() : random.nextInt(16)));
        fields.add(() -> step.deterministic(random.nextInt(3)));
        fields.add(() -> step.softmaxScale(SCALES[random.nextInt(SCALES.length)]));
        sized(
                fields,
                random,
                step::batch,
                step::queryLength,
                step::keyLength,
                step::queryHeads,
                step::kvHeads,
                step::headDim,
                step::valueDim);
        counted(
                fields,
                random,
                step.queryPositions()::count,
                step.keyPositions()::count,
                step.mask()::documents,
                step::workspaceBytes);
        sized(fields, random, step.mask()::left, step.mask()::right);
        orNull(
                fields,
                random,
                step.queryPositions()::ranges,
                step.queryPositions().ranges());
        orNull(fields, random, step.keyPositions()::ranges, step.keyPositions().ranges());
        orNull(fields, random, step.mask()::cuSeqlens, step.mask().cuSeqlens());
        orNull(fields, random, step.mask()::prefixLengths, step.mask().prefixLengths());
        orNull(fields, random, step::workspace, step.workspace());
        TensorView[] tensors = raw.tensors();
        for (TensorView tensor : tensors) {
            orNull(fields, random, tensor::data, tensor.data());
            fields.add(() -> tensor.data(tensors[random.nextInt(tensors.length)].data()));
            strided(fields, random, tensor::strideBatch, tensor::strideSeq, tensor::strideHead);
        }
        for (int i = 1 + random.nextInt(4); i > 0; i--) {
            fields.get(random.nextInt(fields.size())).run();
        }
    }

    private static void sized(List<Runnable> fields, Random random, LongConsumer... setters) {
        for (LongConsumer setter : setters) {
            fields.add(() -> setter.accept(SIZES[random.nextInt(SIZES.length)]));
        }
    }

    /** Numbers of entries: no more than a table has. */
    private static void counted(List<Runnable> fields, Random random, LongConsumer... setters) {
        for (LongConsumer setter : setters) {
            fields.add(() -> setter.accept(random.nextInt(RawStep.TABLE / 3 + 2) - 2));
        }
    }

    private static void strided(List<Runnable> fields, Random random, LongConsumer... setters) {
        for (LongConsumer setter : setters) {
            fields.add(() -> setter.accept(STRIDES[random.nextInt(STRIDES.length)]));
        }
    }

    private static void orNull(List<Runnable> fields, Random random, LongConsumer setter, long address) {
        fields.add(() -> setter.accept(random.nextBoolean() ? 0 : address + random.nextInt(64)));
    }
}
