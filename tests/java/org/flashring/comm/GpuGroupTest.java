package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.DType;
import org.flashring.comm.local.LocalGroup;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.device.Stream;
import org.flashring.support.DeviceCopies;
import org.flashring.support.FencedBuffer;
import org.flashring.support.RequiresGpu;
import org.flashring.sync.GradientSync;
import org.flashring.sync.TokenLoss;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What training needs around attention, on GPUs: several ranks on one, copies between two, and NCCL. */
@Timeout(120)
class GpuGroupTest {
    private static final Duration DEADLINE = Duration.ofSeconds(20);
    private static final int COUNT = 30_001;

    private static List<Device> devices(int count) {
        return IntStream.range(0, count).mapToObj(Device::cuda).toList();
    }

    @RequiresGpu
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 5, 8})
    void ranksOnOneGpu(int world) {
        all(LocalGroup.create(Collections.nCopies(world, Device.cuda(0)), DEADLINE));
    }

    @Test
    @RequiresGpu(2)
    void copiesBetweenGpus() {
        all(LocalGroup.create(List.of(Device.cuda(0), Device.cuda(1), Device.cuda(0)), DEADLINE));
    }

    @Test
    @RequiresGpu(value = 2, nccl = true)
    void ncclByThreads() {
        all(NcclGroup.create(devices(Cuda.deviceCount()), DEADLINE));
    }

    @Test
    @RequiresGpu(nccl = true)
    void ncclOfOne() {
        all(NcclGroup.create(devices(1), DEADLINE));
    }

    @Test
    @RequiresGpu(nccl = true)
    void ncclRefusesAGpuTwice() {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> NcclGroup.create(List.of(Device.cuda(0), Device.cuda(0)), DEADLINE))
                .withMessageContaining("each device once");
    }

    private static void all(List<Communicator> group) {
        assertThat(Ranks.run(group, GpuGroupTest::train))
                .allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    private static double value(int rank, int i) {
        return (rank + 1) * (i % 97 - 48);
    }

    private static FencedBuffer filled(int rank, int count) {
        FencedBuffer buffer = new FencedBuffer(DType.FLOAT32, count);
        for (int i = 0; i < count; i++) {
            buffer.put(i, value(rank, i));
        }
        return buffer;
    }

    private static void train(Communicator communicator) {
        try (Stream stream = Stream.create(communicator.device())) {
            communicator.stream(stream.handle());
            training(communicator, stream);
            communicator.barrier();
        }
    }

    /** Gradient sync in its own communicator and stream, and the loss over all ranks. */
    private static void training(Communicator communicator, Stream stream) {
        int world = communicator.worldSize();
        long[] counts = {5, 1000, COUNT, 3};
        FencedBuffer[] gradients = new FencedBuffer[counts.length];
        try (Communicator own = communicator.split(0, communicator.rank());
                GradientSync sync = new GradientSync(own, DType.FLOAT32, counts, 8192);
                TokenLoss loss = new TokenLoss(communicator);
                DeviceCopies on = new DeviceCopies(communicator.device())) {
            for (int i = counts.length - 1; i >= 0; i--) {
                gradients[i] = filled(communicator.rank(), (int) counts[i]);
                sync.ready(i, on.address(gradients[i]), stream.handle());
            }
            sync.finish(stream.handle());
            communicator.synchronize();
            own.synchronize();
            on.download();
            assertThat(loss.totalTargets(communicator.rank() + 1)).isEqualTo(world * (world + 1) / 2);
            own.barrier();
        }
        for (int i = 0; i < counts.length; i++) {
            for (int j = 0; j < counts[i]; j++) {
                assertThat(gradients[i].get(j)).isEqualTo(world * (world + 1) / 2.0 * (j % 97 - 48));
            }
        }
    }

    @Test
    @RequiresGpu(value = 2, nccl = true)
    void openingAndClosingLeaksNoDeviceMemory() {
        openAndClose(); // what the driver and NCCL keep for good
        long before = Cuda.memory(Device.cuda(0)).free();
        for (int i = 0; i < 20; i++) {
            openAndClose();
        }
        assertThat(before - Cuda.memory(Device.cuda(0)).free()).isLessThan(16L << 20);
    }

    private static void openAndClose() {
        assertThat(Ranks.run(NcclGroup.create(devices(2), DEADLINE), Communicator::barrier))
                .noneMatch(Ranks.Ending::failed);
    }
}
