package org.flashring.device;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.comm.peer.PeerGroup;
import org.flashring.launch.Environment;
import org.flashring.plan.Plan;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** On a machine without CUDA everything loads, and what needs a device says why there is none. */
class NoCudaTest {
    private static final AttentionShape SHAPE = AttentionShape.of(1, 2, 2, 16, DType.FLOAT32);

    @BeforeEach
    void onlyWithoutCuda() {
        assumeFalse(Cuda.isAvailable(), "there is CUDA here");
    }

    private static void refused(org.assertj.core.api.ThrowableAssert.ThrowingCallable call) {
        assertThatThrownBy(call)
                .isInstanceOf(UnsupportedOperationException.class)
                .hasMessageContaining(Cuda.unavailabilityCause());
    }

    @Test
    void thereIsACause() {
        assertThat(Cuda.unavailabilityCause()).isNotBlank();
        assertThat(Cuda.deviceCount()).isZero();
        assertThat(NcclGroup.unavailabilityCause()).isEqualTo(Cuda.unavailabilityCause());
    }

    @Test
    void ownersSayWhy() {
        refused(() -> DeviceBuffer.allocate(Device.cuda(0), 8));
        refused(() -> DeviceBuffer.wrap(Device.cuda(0), 4096, 8));
        refused(() -> OwnedMemory.allocate(Device.cuda(0), 8));
        refused(() -> Stream.create(Device.cuda(0)));
        refused(() -> Event.create(Device.cuda(0)));
        refused(() -> Cuda.memory(Device.cuda(0)));
        refused(() -> Cuda.name(Device.cuda(0)));
        refused(() -> Cuda.tileBytes(Device.cuda(0)));
    }

    @Test
    void groupsSayWhy() {
        refused(() -> LocalGroup.single(Device.cuda(0)));
        refused(() -> LocalGroup.create(List.of(Device.cuda(0), Device.cuda(0)), Duration.ofSeconds(1)));
        refused(() -> NcclGroup.create(List.of(Device.cuda(0)), Duration.ofSeconds(1)));
        refused(() -> NcclGroup.join(new Environment(0, 0, 1, "127.0.0.1", 1, ""), Map.of(), Duration.ofSeconds(1)));
        refused(() -> PeerGroup.join(new Environment(0, 0, 1, "127.0.0.1", 1, ""), Map.of(), Duration.ofSeconds(1)));
    }

    @Test
    void aPlanForCudaSaysWhy() {
        refused(() -> Plan.of(
                SHAPE,
                Layout.contiguous(8, 1),
                Mask.full(),
                AttentionOptions.defaults().onCuda()));
    }

    @Test
    void tensorsOnAnotherDeviceAreRefusedByName() {
        Plan plan = Plan.of(SHAPE, Layout.contiguous(8, 1), Mask.full(), AttentionOptions.defaults());
        try (Communicator single = LocalGroup.single();
                RingAttention ring = new RingAttention(plan, single);
                HostBuffer memory = HostBuffer.allocate(4096)) {
            Tensor here = Tensor.bshd(memory.memory(), DType.FLOAT32, 1, 8, 2, 16);
            Tensor there = Tensor.bshd(Memory.of(4096, 4096, Device.cuda(0)), DType.FLOAT32, 1, 8, 2, 16);
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> ring.forward(here, there, here, here, here))
                    .withMessage("k is on cuda:0; it must lie on host, the communicator's device");
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> ring.forward(here, here, here, here, here, 64))
                    .withMessageContaining("stream is 64");
        }
    }
}
