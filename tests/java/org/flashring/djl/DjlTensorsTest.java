package org.flashring.djl;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.engine.PtNDArray;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Device;
import org.flashring.internal.Native;
import org.flashring.plan.Plan;
import org.junit.jupiter.api.Test;

/** Views lie where DJL's arrays lie. */
class DjlTensorsTest {
    @Test
    void stridesAndAddressAreTheArrays() {
        try (NDManager manager = Djl.manager()) {
            NDArray whole = manager.zeros(new Shape(3, 7, 5, 16), DataType.FLOAT32);
            NDArray part = whole.swapAxes(1, 2).get(":, :, 2:6, 8:14");
            Tensor view = DjlTensors.bhsd("q", part);
            assertThat(view.address())
                    .isEqualTo(Native.address(((PtNDArray) whole).toByteBuffer(true)) + 4 * (2 * 5 * 16 + 8));
            assertThat(new long[] {view.batch(), view.heads(), view.length(), view.dim()})
                    .containsExactly(3, 5, 4, 6);
            assertThat(new long[] {view.strideBatch(), view.strideHead(), view.strideLength()})
                    .containsExactly(7 * 5 * 16, 16, 5 * 16);
            assertThat(view.memory().device()).isEqualTo(Device.HOST);
            assertThat(DjlTensors.bshd("q", part.swapAxes(1, 2))).hasToString(view.toString());
            assertThat(view.memory().isClosed()).isFalse();
            part.close();
            assertThat(view.memory().isClosed()).isTrue();
        }
    }

    /** What is not contiguous DJL copies when a buffer of it is asked for; a view is written where the array lies. */
    @Test
    void transposedOutputIsWrittenInPlace() {
        Plan plan = Plan.of(
                AttentionShape.of(1, 2, 2, 4, DType.FLOAT32),
                Layout.contiguous(5, 1),
                Mask.causal(),
                AttentionOptions.defaults().forwardOnly());
        try (NDManager manager = Djl.manager();
                FlashAttention attention = new FlashAttention(plan)) {
            NDArray q = Djl.random(manager, 1, DataType.FLOAT32, 1, 2, 5, 4);
            NDArray exact = Djl.exact(q);
            NDArray whole = manager.zeros(new Shape(1, 2, 5, 4));
            NDArray heads = manager.zeros(new Shape(1, 5, 2, 4));
            for (NDArray out : new NDArray[] {whole, heads.swapAxes(1, 2)}) {
                attention.forward(
                        DjlTensors.bhsd("q", q),
                        DjlTensors.bhsd("k", q),
                        DjlTensors.bhsd("v", q),
                        DjlTensors.bhsd("out", out),
                        null,
                        0);
            }
            Djl.assertClose("out", whole, Djl.attention(exact, exact, exact, true), 1e-6, 0);
            assertThat(Djl.values(heads.swapAxes(1, 2))).isEqualTo(Djl.values(whole));
        }
    }

    @Test
    void closedArrayIsRefusedByCalls() {
        Plan plan = Plan.of(
                AttentionShape.of(1, 2, 2, 4, DType.FLOAT32),
                Layout.contiguous(5, 1),
                Mask.causal(),
                AttentionOptions.defaults().forwardOnly());
        try (NDManager manager = Djl.manager();
                FlashAttention attention = new FlashAttention(plan)) {
            NDArray q = manager.ones(new Shape(1, 2, 5, 4));
            NDArray out = manager.zeros(new Shape(1, 2, 5, 4));
            Tensor view = DjlTensors.bhsd("q", q);
            Tensor to = DjlTensors.bhsd("out", out);
            out.close();
            assertThatThrownBy(() -> attention.forward(view, view, view, to, null, 0))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("out");
        }
    }

    /** The framework's CUDA build is not there: a device address goes the way that its arrays' addresses go. */
    @Test
    void deviceAddressKeepsItsDevice() {
        Tensor view = DjlTensors.at(
                0x7f0000000000L,
                Device.cuda(1),
                DType.BFLOAT16,
                new long[] {2, 33, 4, 64},
                new long[] {33 * 256, 256, 64},
                this);
        assertThat(view.memory().device()).isEqualTo(Device.cuda(1));
        assertThat(view.address()).isEqualTo(0x7f0000000000L);
        assertThat(view.memory().bytes()).isEqualTo(2 * 33 * 256 * 2);
    }
}
