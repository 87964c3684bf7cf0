package org.flashring.pytorch;

import static org.assertj.core.api.Assertions.assertThat;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.flashring.DType;
import org.flashring.device.Device;
import org.junit.jupiter.api.Test;

/** Views lie where PyTorch's tensors lie. */
@SuppressWarnings("try") // a scope works by being open
class TorchTensorsTest {
    @Test
    void stridesAndAddressArePyTorchs() {
        try (PointerScope scope = new PointerScope()) {
            Tensor part =
                    torch.zeros(3, 7, 5, 16).transpose(1, 2).narrow(2, 2, 4).narrow(3, 8, 6);
            org.flashring.Tensor view = TorchTensors.bhsd("q", part);
            assertThat(view.address()).isEqualTo(part.data_ptr().address());
            assertThat(new long[] {view.batch(), view.heads(), view.length(), view.dim()})
                    .containsExactly(3, 5, 4, 6);
            assertThat(new long[] {view.strideBatch(), view.strideHead(), view.strideLength()})
                    .containsExactly(part.stride(0), part.stride(1), part.stride(2));
            assertThat(view.memory().device()).isEqualTo(Device.HOST);
            assertThat(view.memory().isClosed()).isFalse();
            Tensor lengthFirst = part.transpose(1, 2);
            assertThat(TorchTensors.bshd("q", lengthFirst)).hasToString(view.toString());
            part.close();
            assertThat(view.memory().isClosed()).isTrue();
        }
    }

    /** The framework's CUDA build is not there: a device address goes the way that its tensors' addresses go. */
    @Test
    void deviceAddressKeepsItsDevice() {
        org.flashring.Tensor view = TorchTensors.at(
                0x7f0000000000L,
                Device.cuda(1),
                DType.BFLOAT16,
                new long[] {2, 33, 4, 64},
                new long[] {33 * 256, 256, 64},
                this);
        assertThat(view.memory().device()).isEqualTo(Device.cuda(1));
        assertThat(view.address()).isEqualTo(0x7f0000000000L);
        assertThat(view.memory().bytes()).isEqualTo(2 * 33 * 256 * 2);
        assertThat(CudaStreams.current(Device.HOST)).isZero();
    }
}
