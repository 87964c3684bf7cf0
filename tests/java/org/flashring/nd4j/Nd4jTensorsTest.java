package org.flashring.nd4j;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import java.util.function.UnaryOperator;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Device;
import org.flashring.device.Memory;
import org.junit.jupiter.api.Test;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.memory.MemoryWorkspace;
import org.nd4j.linalg.api.memory.conf.WorkspaceConfiguration;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.api.ops.executioner.OpExecutioner.ExecutionerType;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;

/** Views lie where ND4J's arrays lie. */
class Nd4jTensorsTest {
    private static final WorkspaceConfiguration SCOPE =
            WorkspaceConfiguration.builder().initialSize(1 << 20).build();

    /** The address of a view is that of its buffer and its offset: ND4J's pointer knows nothing of the offset. */
    @Test
    void stridesAndAddressesAreNd4js() {
        INDArray base = Composed.random(1, DataType.FLOAT, 4, 8, 7, 21);
        INDArray part = Form.PART.view(base, 3, 6, 4, 16);
        Tensor view = Nd4jTensors.bhsd("q", part);
        assertThat(part.offset()).isPositive();
        assertThat(view.address()).isEqualTo(base.data().address() + 4 * part.offset());
        assertThat(new long[] {view.batch(), view.heads(), view.length(), view.dim()})
                .containsExactly(3, 6, 4, 16);
        assertThat(new long[] {view.strideBatch(), view.strideHead(), view.strideLength()})
                .containsExactly(part.stride(0), part.stride(1), part.stride(2));
        assertThat(view.memory().device()).isEqualTo(Device.HOST);
        assertThat(view.memory().bytes()).isEqualTo(4 * (base.length() - part.offset()));
        assertThat(Nd4jTensors.bshd("q", part.permute(0, 2, 1, 3))).hasToString(view.toString());
        assertThat(Nd4jTensors.bhds("q", part.permute(0, 1, 3, 2))).hasToString(view.toString());
    }

    @Test
    void arrayInNd4jsOwnOrderIsReadByBoth() {
        INDArray array = Nd4jTensors.createBhds(DataType.BFLOAT16, 2, 3, 8, 5);
        assertThat(array.shape()).containsExactly(2, 3, 8, 5);
        Tensor view = Nd4jTensors.bhds("q", array);
        assertThat(new long[] {view.batch(), view.heads(), view.length(), view.dim()})
                .containsExactly(2, 3, 5, 8);
        assertThat(view.isInjective()).isTrue();
        assertThatThrownBy(() -> Nd4jTensors.bhds("q", Nd4j.create(DataType.FLOAT, 2, 3, 8, 5)))
                .hasMessageStartingWith("q.stride(2) is 5, but must be 1");
    }

    @Test
    void otherBackendsAreRefused() {
        assertThatThrownBy(() -> Nd4jTensors.requireHost(ExecutionerType.CUDA))
                .isInstanceOf(UnsupportedOperationException.class)
                .hasMessageStartingWith("ND4J's backend is CUDA");
    }

    @Test
    void arraysOfTheWorkspaceThatIsEnteredAreTaken() {
        for (int turn = 0; turn < 3; turn++) {
            try (MemoryWorkspace scope = Nd4j.getWorkspaceManager().getAndActivateWorkspace(SCOPE, "taken")) {
                INDArray q = Nd4j.ones(DataType.FLOAT, 1, 2, 5, 4);
                assertThat(q.isAttached()).isTrue();
                AttentionPass pass = Nd4jAttention.forward(q, q, q, Mask.causal());
                assertThat(pass.backward(pass.out()).dv().sumNumber().doubleValue())
                        .isCloseTo(40, org.assertj.core.data.Offset.offset(1e-4));
                assertThat(scope.getId()).isEqualTo("taken");
            }
        }
    }

    /** ND4J gives their memory to whoever enters next; it does not say so itself. */
    @Test
    void arraysOfAWorkspaceThatWasLeftAreRefused() {
        INDArray kept = Nd4j.ones(DataType.FLOAT, 1, 2, 5, 4);
        AttentionPass pass;
        INDArray detached;
        try (MemoryWorkspace scope = Nd4j.getWorkspaceManager().getAndActivateWorkspace(SCOPE, "left")) {
            pass = Nd4jAttention.forward(kept, kept, Nd4j.ones(DataType.FLOAT, 1, 2, 5, 4), Mask.causal());
            detached = pass.out().detach();
            assertThat(scope.getId()).isEqualTo("left");
        }
        assertThatThrownBy(() -> pass.backward(kept))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("lies in workspace left, which has been left since");
        try (MemoryWorkspace again = Nd4j.getWorkspaceManager().getAndActivateWorkspace(SCOPE, "left")) {
            assertThatThrownBy(() -> Nd4jTensors.bhsd("q", pass.out()))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageStartingWith("q lies in workspace left");
            assertThat(again.getId()).isEqualTo("left");
        }
        assertThat(Nd4jAttention.scaledDotProductAttention(kept, kept, detached, Mask.full()))
                .isEqualTo(kept);
    }

    private static INDArray array() {
        return Nd4j.ones(DataType.FLOAT, 2, 3, 5, 4);
    }

    private static void assertClosed(INDArray array) {
        INDArray open = array();
        assertThatThrownBy(() -> Nd4jAttention.forward(open, open, array, Mask.causal()))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("v is closed");
    }

    /** A view shares its buffer: it is gone with any array that closes it. */
    @Test
    void closedArraysAndViewsOfThemAreRefused() {
        List<UnaryOperator<INDArray>> views = List.of(
                array -> array,
                array -> array.reshape(2, 3, 5, 4),
                array -> array.permute(0, 1, 2, 3),
                array -> array.get(NDArrayIndex.interval(0, 1)),
                array -> array.get(NDArrayIndex.all(), NDArrayIndex.interval(0, 2))
                        .permute(1, 0, 2, 3));
        for (UnaryOperator<INDArray> view : views) {
            INDArray array = array();
            INDArray part = view.apply(array);
            array.close();
            assertClosed(part);
        }
        INDArray base = array();
        base.permute(0, 2, 1, 3).close();
        assertClosed(base);
    }

    @Test
    void whatBackwardNeedsIsRefusedOnceItIsClosed() {
        for (int closed = 0; closed < 4; closed++) {
            INDArray[] arrays = {array(), array(), array(), null};
            AttentionPass pass = Nd4jAttention.forward(arrays[0], arrays[1], arrays[2], Mask.causal());
            arrays[3] = pass.out();
            arrays[closed].close();
            assertThatThrownBy(() -> pass.backward(array()))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageEndingWith(" is closed");
        }
    }

    /** A FlashRing tensor is an address; it asks the array before each call. */
    @Test
    void tensorsOfWhatHasBeenClosedOrLeftSinceAreRefused() {
        INDArray closed = array();
        Tensor ofClosed = Nd4jTensors.bhsd("q", closed.permute(0, 1, 2, 3));
        Tensor ofLeft;
        try (MemoryWorkspace scope = Nd4j.getWorkspaceManager().getAndActivateWorkspace(SCOPE, "since")) {
            ofLeft = Nd4jTensors.bhsd("q", array());
            assertThat(ofLeft.memory().isClosed()).as(scope.getId()).isFalse();
        }
        assertThat(ofClosed.memory().isClosed()).isFalse();
        closed.close();
        Tensor open = Nd4jTensors.bhsd("k", array());
        Tensor out = Nd4jTensors.bhsd("out", array());
        AttentionShape shape = AttentionShape.of(2, 3, 3, 4, DType.FLOAT32);
        try (FlashAttention attention = new FlashAttention(shape, 5, Mask.causal())) {
            Tensor lse = Tensor.lse(
                    Memory.of(Nd4j.ones(DataType.FLOAT, 2, 3, 5).data().pointer()), DType.FLOAT32, 2, 3, 5);
            for (Tensor gone : List.of(ofClosed, ofLeft)) {
                assertThatThrownBy(() -> attention.forward(gone, open, open, out, lse))
                        .isInstanceOf(IllegalArgumentException.class)
                        .hasMessageStartingWith("q is closed");
            }
        }
    }
}
