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

/** Every verb on GPUs: several ranks on one, copies between two, and NCCL; all in the order of a stream of the caller's. */
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
        assertThatIllegalArgumentException().isThrownBy(() -> NcclGroup.create(List.of(Device.cuda(0), Device.cuda(0)), DEADLINE))
                .withMessageContaining("each device once");
    }

    private static void all(List<Communicator> group) {
        assertThat(Ranks.run(group, GpuGroupTest::verbs)).allSatisfy(ending -> assertThat(ending.thrown()).isNull());
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

    private static void verbs(Communicator communicator) {
        try (Stream stream = Stream.create(communicator.device())) {
            communicator.stream(stream.handle());
            exchanges(communicator);
            collectives(communicator);
            splits(communicator);
            training(communicator, stream);
            communicator.barrier();
        }
    }

    /** Two messages in flight, round and round, so that what arrives is sent on: order is what is tested. */
    private static void exchanges(Communicator communicator) {
        int rank = communicator.rank();
        int world = communicator.worldSize();
        int next = (rank + 1) % world;
        int previous = (rank + world - 1) % world;
        FencedBuffer[] forth = {filled(rank, COUNT), new FencedBuffer(DType.FLOAT32, COUNT)};
        FencedBuffer[] back = {filled(10 + rank, 7), new FencedBuffer(DType.FLOAT32, 7)};
        try (DeviceCopies on = new DeviceCopies(communicator.device())) {
            int laps = 3 * world;
            for (int lap = 0; lap < laps; lap++) {
                communicator.at("test", lap);
                communicator.post(on.address(forth[lap % 2]), 4L * COUNT, next, on.address(forth[1 - lap % 2]), 4L * COUNT, previous);
                communicator.post(on.address(back[lap % 2]), 4L * 7, previous, on.address(back[1 - lap % 2]), 4L * 7, next);
                communicator.post(0, 0, next, 0, 0, previous);
                communicator.await();
            }
            communicator.synchronize();
            on.download();
            for (int i = 0; i < COUNT; i++) {
                assertThat(forth[laps % 2].get(i)).isEqualTo(value(rank, i));
                assertThat(forth[1 - laps % 2].get(i)).isEqualTo(value(next, i));
            }
            for (int i = 0; i < 7; i++) {
                assertThat(back[laps % 2].get(i)).isEqualTo(value(10 + rank, i));
            }
        }
    }

    private static void collectives(Communicator communicator) {
        int rank = communicator.rank();
        int world = communicator.worldSize();
        FencedBuffer own = filled(rank, COUNT);
        FencedBuffer gathered = new FencedBuffer(DType.FLOAT32, (long) world * COUNT);
        FencedBuffer sent = filled(rank, world * 11);
        FencedBuffer turned = new FencedBuffer(DType.FLOAT32, world * 11L);
        FencedBuffer sum = filled(rank, COUNT);
        FencedBuffer parts = filled(rank, world * 13);
        FencedBuffer part = new FencedBuffer(DType.FLOAT32, 13);
        try (DeviceCopies on = new DeviceCopies(communicator.device())) {
            communicator.allGather(on.address(own), 4L * COUNT, on.address(gathered));
            communicator.allToAll(on.address(sent), 4L * 11, on.address(turned));
            communicator.allReduce(on.address(sum), COUNT, DType.FLOAT32);
            communicator.reduceScatter(on.address(parts), 13, DType.FLOAT32, on.address(part));
            communicator.allReduce(on.address(part), 0, DType.FLOAT32);
            communicator.synchronize();
            on.download();
        }
        double ranks = world * (world + 1) / 2.0;
        for (int i = 0; i < COUNT; i++) {
            assertThat(sum.get(i)).isEqualTo(ranks * (i % 97 - 48));
            for (int peer = 0; peer < world; peer++) {
                assertThat(gathered.get((long) peer * COUNT + i)).isEqualTo(value(peer, i));
            }
        }
        for (int i = 0; i < world * 11; i++) {
            assertThat(turned.get(i)).isEqualTo(value(i / 11, rank * 11 + i % 11));
        }
        for (int i = 0; i < 13; i++) {
            assertThat(part.get(i)).isEqualTo(ranks * ((rank * 13 + i) % 97 - 48));
        }
    }

    private static void splits(Communicator communicator) {
        int world = communicator.worldSize();
        try (Communicator half = communicator.split(communicator.rank() % 2, world - communicator.rank())) {
            assertThat(half.worldSize()).isEqualTo((world + 1 - communicator.rank() % 2) / 2);
            assertThat(half.device()).isEqualTo(communicator.device());
            FencedBuffer one = filled(0, 1);
            try (DeviceCopies on = new DeviceCopies(half.device())) {
                half.allReduce(on.address(one), 1, DType.FLOAT32);
                half.synchronize();
                on.download();
            }
            assertThat(one.get(0)).isEqualTo(-48.0 * half.worldSize());
            half.barrier();
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
        assertThat(Ranks.run(NcclGroup.create(devices(2), DEADLINE), Communicator::barrier)).noneMatch(Ranks.Ending::failed);
    }
}
