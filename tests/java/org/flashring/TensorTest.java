package org.flashring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.data.Offset.offset;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.function.Function;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Memory;
import org.junit.jupiter.api.Test;

/** Where the elements of a tensor lie, by the formula of the layout that its name tells. */
class TensorTest {
    private static final int BATCH = 2;
    private static final int LENGTH = 3;
    private static final int HEADS = 4;
    private static final int KV_HEADS = 2;
    private static final int DIM = 8;
    private static final DType F32 = DType.FLOAT32;
    private static final long AT = 1 << 12; // never followed

    /** The number of an element of {@code part} in a block that holds three of them. */
    private interface Index {
        long of(int part, long batch, long token, long head);
    }

    private static void requireIndex(Qkv qkv, Index index) {
        List<Tensor> parts = List.of(qkv.q(), qkv.k(), qkv.v());
        for (int part = 0; part < 3; part++) {
            Tensor tensor = parts.get(part);
            assertThat(List.of(tensor.batch(), tensor.length(), tensor.dim()))
                    .containsExactly((long) BATCH, (long) LENGTH, (long) DIM);
            for (long b = 0; b < BATCH; b++) {
                for (long l = 0; l < LENGTH; l++) {
                    for (long h = 0; h < tensor.heads(); h++) {
                        long element = b * tensor.strideBatch() + l * tensor.strideLength() + h * tensor.strideHead();
                        assertThat(tensor.address() + 4 * element)
                                .as("part %d, batch %d, token %d, head %d", part, b, l, h)
                                .isEqualTo(AT + 4 * index.of(part, b, l, h));
                    }
                }
            }
        }
    }

    private static Memory block(long elements) {
        return Memory.of(AT, 4 * elements);
    }

    @Test
    void qkvHasTheHeadsOfEachTokenBehindEachOther() {
        int all = HEADS + 2 * KV_HEADS;
        int[] first = {0, HEADS, HEADS + KV_HEADS};
        Qkv qkv = Tensor.qkv(block(BATCH * LENGTH * all * DIM), F32, BATCH, LENGTH, HEADS, KV_HEADS, DIM);
        requireIndex(qkv, (part, b, l, h) -> ((b * LENGTH + l) * all + first[part] + h) * DIM);
        assertThat(List.of(qkv.q().heads(), qkv.k().heads(), qkv.v().heads())).containsExactly(4L, 2L, 2L);
    }

    @Test
    void qkvOfAsManyHeadsIsBatchLengthThreeHeadsDim() {
        Qkv qkv = Tensor.qkv(block(BATCH * LENGTH * 3 * HEADS * DIM), F32, BATCH, LENGTH, HEADS, HEADS, DIM);
        requireIndex(qkv, (part, b, l, h) -> (((b * LENGTH + l) * 3 + part) * HEADS + h) * DIM);
    }

    @Test
    void qkvPerHeadIsBatchLengthHeadsThreeDim() {
        Qkv qkv = Tensor.qkvPerHead(block(BATCH * LENGTH * HEADS * 3 * DIM), F32, BATCH, LENGTH, HEADS, DIM);
        requireIndex(qkv, (part, b, l, h) -> (((b * LENGTH + l) * HEADS + h) * 3 + part) * DIM);
        assertThat(qkv.v().heads()).isEqualTo(HEADS);
    }

    @Test
    void aRankWithoutTokensHasQkvInNoMemory() {
        assertThat(Tensor.qkv(Memory.of(0), F32, 1, 0, 4, 2, 5).v().elements()).isZero();
        assertThat(Tensor.qkvPerHead(Memory.of(0), F32, 1, 0, 4, 5).v().elements())
                .isZero();
    }

    @Test
    void attentionReadsAndWritesQkvInOneBlock() {
        int block = LENGTH * HEADS * 3 * DIM; // of each batch row
        requireMeans(memory -> Tensor.qkv(memory, F32, BATCH, LENGTH, HEADS, HEADS, DIM), block, HEADS * DIM);
        requireMeans(memory -> Tensor.qkvPerHead(memory, F32, BATCH, LENGTH, HEADS, DIM), block, DIM);
    }

    /**
     * With q = 0 and k = 0 outputs are the means of the values, and the gradients of their sum are 1 by each value and
     * 0 by q and k.
     *
     * @param run how many elements of one part lie side by side
     */
    private static void requireMeans(Function<Memory, Qkv> view, int block, int run) {
        FloatBuffer qkv = floats(BATCH * block);
        for (int i = 0; i < qkv.capacity(); i++) {
            qkv.put(i, i / run % 3 == 2 ? i / block + 0.25f * (i / (block / LENGTH) % LENGTH) : 0); // batch + token / 4
        }
        FloatBuffer grads = floats(BATCH * block);
        FloatBuffer out = floats(BATCH * block / 3);
        FloatBuffer ones = floats(BATCH * block / 3);
        for (int i = 0; i < ones.capacity(); i++) {
            ones.put(i, 1);
        }
        Qkv inputs = view.apply(Memory.of(qkv));
        Qkv gradients = view.apply(Memory.of(grads));
        Tensor outputs = Tensor.bshd(Memory.of(out), F32, BATCH, LENGTH, HEADS, DIM);
        Tensor lse = Tensor.lse(Memory.of(floats(BATCH * HEADS * LENGTH)), F32, BATCH, HEADS, LENGTH);
        Tensor dout = Tensor.bshd(Memory.of(ones), F32, BATCH, LENGTH, HEADS, DIM);
        AttentionShape shape = AttentionShape.of(BATCH, HEADS, HEADS, DIM, F32);
        try (FlashAttention attention = new FlashAttention(shape, LENGTH, Mask.full())) {
            attention.forward(inputs.q(), inputs.k(), inputs.v(), outputs, lse);
            attention.backward(
                    inputs.q(),
                    inputs.k(),
                    inputs.v(),
                    outputs,
                    lse,
                    dout,
                    gradients.q(),
                    gradients.k(),
                    gradients.v());
        }
        for (int i = 0; i < out.capacity(); i++) {
            assertThat(out.get(i)).isCloseTo(i / (block / 3) + 0.25f, offset(1e-6f));
        }
        for (int i = 0; i < grads.capacity(); i++) {
            assertThat(grads.get(i)).isCloseTo(i / run % 3 == 2 ? 1 : 0, offset(1e-6f));
        }
    }

    private static FloatBuffer floats(int count) {
        return ByteBuffer.allocateDirect(count * Float.BYTES)
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
    }

    @Test
    void shapeAndStridesAreTakenAsFrameworksGiveThem() {
        Tensor view = Tensor.of(block(1000), F32, new long[] {2, 3, 4, 5}, new long[] {500, 40, 9, 1});
        assertThat(view).hasToString("FLOAT32 [2, 3, 4, 5] strides [500, 40, 9, 1] at 0x1000");
        Tensor headsFirst = Tensor.of(block(120), F32, new long[] {2, 3, 4, 5}, new long[] {60, 5, 15, 1});
        assertThat(headsFirst)
                .hasToString(Tensor.bhsd(block(120), F32, 2, 4, 3, 5).toString());
    }

    @Test
    void theStrideOfASingleElementMayBeAny() {
        Tensor lse = Tensor.of(block(24), F32, new long[] {2, 3, 4, 1}, new long[] {12, 1, 3, 77});
        assertThat(lse).hasToString(Tensor.lse(block(24), F32, 2, 4, 3).toString());
        Tensor one = Tensor.of(block(5), F32, new long[] {1, 1, 1, 5}, new long[] {999, 999, 999, 1});
        assertThat(one.elements()).isEqualTo(5);
    }
}
