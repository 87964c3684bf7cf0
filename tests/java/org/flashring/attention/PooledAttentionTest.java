package org.flashring.attention;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.data.Offset.offset;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.Memory;
import org.junit.jupiter.api.Test;

/** Queries of zeros: every key seen weighs the same, so the last row is a mean that the call's kind alone decides. */
class PooledAttentionTest {
    private static final int DIM = 4;
    private static final int MORE_KINDS_THAN_ARE_KEPT = 24;

    private static PooledAttention pooled(int length, Mask mask, boolean training) {
        AttentionShape shape = AttentionShape.of(1, 1, 1, DIM, DType.FLOAT32);
        return new PooledAttention(shape, length, length, mask, Score.standard(), training, Device.HOST);
    }

    private static FloatBuffer floats(int count) {
        return ByteBuffer.allocateDirect(count * Float.BYTES)
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
    }

    private static Tensor tensor(FloatBuffer buffer) {
        return Tensor.bshd(Memory.of(buffer), DType.FLOAT32, 1, buffer.capacity() / DIM, 1, DIM);
    }

    /** Returns the first element of the last row, where the value of token i is i. */
    private static float last(PooledAttention attention) {
        int length = (int) attention.queries();
        FloatBuffer q = floats(length * DIM);
        FloatBuffer v = floats(length * DIM);
        FloatBuffer out = floats(length * DIM);
        for (int i = 0; i < v.capacity(); i++) {
            v.put(i, i / DIM);
        }
        Tensor lse = attention.training() ? Tensor.lse(Memory.of(floats(length)), DType.FLOAT32, 1, 1, length) : null;
        attention.forward(new Forward(tensor(q), tensor(q), tensor(v), tensor(out), lse), 0);
        return out.get((length - 1) * DIM);
    }

    @Test
    void kindsAreKeptApartThoughMoreThanAreKept() {
        for (int round = 0; round < 2; round++) {
            for (int length = 1; length <= MORE_KINDS_THAN_ARE_KEPT; length++) {
                assertThat(last(pooled(length, Mask.full(), true))).isCloseTo((length - 1) / 2f, offset(1e-4f));
                assertThat(last(pooled(length, Mask.full().window(0, 0), length % 2 == 0)))
                        .isCloseTo(length - 1, offset(1e-4f));
            }
        }
    }

    @Test
    void threadsAtOnceHaveBuffersOfTheirOwn() {
        List<Float> found = IntStream.range(0, 400)
                .parallel()
                .mapToObj(i -> last(pooled(9 + i % 3, Mask.full(), true)))
                .toList();
        for (int i = 0; i < found.size(); i++) {
            assertThat(found.get(i)).isCloseTo((8 + i % 3) / 2f, offset(1e-4f));
        }
    }

    @Test
    void aCallThatIsRefusedLeavesTheNextOneRight() {
        PooledAttention attention = pooled(5, Mask.full(), true);
        Tensor five = tensor(floats(5 * DIM));
        assertThatThrownBy(() -> attention.forward(new Forward(five, five, five, five, null), 0))
                .isInstanceOf(IllegalArgumentException.class);
        assertThat(last(attention)).isCloseTo(2, offset(1e-4f));
    }

    @Test
    void backwardOfInferenceIsRefused() {
        Tensor five = tensor(floats(5 * DIM));
        Forward forward = new Forward(five, five, five, tensor(floats(5 * DIM)), null);
        Backward backward =
                new Backward(forward, five, tensor(floats(5 * DIM)), tensor(floats(5 * DIM)), tensor(floats(5 * DIM)));
        assertThatThrownBy(() -> pooled(5, Mask.full(), false).backward(backward, 0))
                .isInstanceOf(IllegalStateException.class);
    }

    /** Streams are part of a kind: calls on some that are none would drive out what others use again. */
    @Test
    void whatACallThatIsRefusedWouldHaveUsedIsNotKept() {
        PooledAttention attention = pooled(5, Mask.full(), false);
        Tensor five = tensor(floats(5 * DIM));
        Forward forward = new Forward(five, five, five, tensor(floats(5 * DIM)), null);
        attention.forward(forward, 0);
        int idle = PooledAttention.idle();
        for (int stream = 1; stream <= MORE_KINDS_THAN_ARE_KEPT; stream++) {
            int none = stream;
            assertThatThrownBy(() -> attention.forward(forward, none))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessage("stream is " + none + "; it must be 0 on the host");
        }
        assertThat(PooledAttention.idle()).isEqualTo(idle);
    }

    @Test
    void numbersThatAreNoneAreRefusedByName() {
        AttentionShape shape = AttentionShape.of(1, 1, 1, DIM, DType.FLOAT32);
        assertThatThrownBy(() -> new PooledAttention(shape, -1, 5, Mask.full(), Score.standard(), false, Device.HOST))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith("queries is -1");
        assertThatThrownBy(() -> new PooledAttention(shape, 5, -1, Mask.full(), Score.standard(), false, Device.HOST))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith("keys is -1");
    }
}
