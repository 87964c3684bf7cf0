package org.flashring.comm.peer;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import org.bytedeco.javacpp.FloatPointer;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.comm.ContractRank;
import org.flashring.comm.EveryVerb;
import org.flashring.comm.Transfers;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Stream;
import org.flashring.launch.Environment;
import org.flashring.support.HeapBytes;
import org.flashring.support.RankProcesses;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Processes that copy from each other's GPU memory: on one GPU, or on those that there are in turn. */
@RequiresGpu
@Timeout(300)
class PeerContractTest {
    private static final Duration DEADLINE = Duration.ofSeconds(20);
    private static final Duration PATIENCE = Duration.ofSeconds(150);

    @TempDir
    Path folder;

    static Communicator join(Duration deadline) {
        return PeerGroup.join(Environment.current(), Map.of(), deadline, cause -> {
            throw new AssertionError("no peer copies: " + cause);
        });
    }

    private void all(Class<?> main, int world, String says) throws Exception {
        RankProcesses ranks = RankProcesses.start(main, world, folder);
        for (int rank = 0; rank < world; rank++) {
            assertThat(ranks.exitCode(rank, PATIENCE)).as(ranks.output(rank)).isZero();
            assertThat(ranks.output(rank)).contains(says);
        }
    }

    @ParameterizedTest(name = "{0} processes")
    @ValueSource(ints = {1, 2, 3, 4})
    void theContractIsKept(int world) throws Exception {
        all(Contract.class, world, "the contract is kept");
    }

    static final class Contract {
        private Contract() {}

        public static void main(String[] args) {
            ContractRank.run(PeerContractTest::join);
            System.out.println("the contract is kept");
        }
    }

    /** All ranks get the bits of a sum in rank order, on every run. */
    @Test
    void sumsAreTheSameBitsEverywhere() throws Exception {
        all(Sums.class, 3, "in rank order");
    }

    static final class Sums {
        private Sums() {}

        private static float value(int rank, int i) {
            return (float) Math.sin(1 + rank * 31 + i) * (rank == 1 ? 1e4f : 1);
        }

        public static void main(String[] args) {
            int count = 100_003;
            try (Communicator ranks = join(DEADLINE);
                    DeviceBuffer memory = DeviceBuffer.allocate(ranks.device(), 4L * count)) {
                for (int run = 0; run < 3; run++) {
                    float[] own = new float[count];
                    for (int i = 0; i < count; i++) {
                        own[i] = value(ranks.rank(), i);
                    }
                    memory.upload(new FloatPointer(own));
                    ranks.allReduce(memory.address(), count, DType.FLOAT32);
                    ranks.synchronize();
                    FloatPointer sum = new FloatPointer(count);
                    memory.download(sum);
                    for (int i = 0; i < count; i++) {
                        float expected = value(0, i) + value(1, i) + value(2, i);
                        if (sum.get(i) != expected) {
                            throw new AssertionError(i + ": " + sum.get(i) + " in place of " + expected);
                        }
                    }
                }
                ranks.barrier();
            }
            System.out.println("in rank order");
        }
    }

    /** Groups whose streams are more than the GPU runs beside each other, with waits of all under way at once. */
    @Test
    void manyGroupsLive() throws Exception {
        all(Groups.class, 2, "all groups meet");
    }

    static final class Groups {
        private static final int COUNT = 6;
        private static final int ROUNDS = 30;
        private static final int BYTES = 1 << 16;

        private Groups() {}

        public static void main(String[] args) throws InterruptedException {
            try (Communicator ranks = join(DEADLINE)) {
                Group[] groups = new Group[COUNT];
                for (int i = 0; i < COUNT; i++) {
                    groups[i] = Group.of(ranks);
                }
                for (int round = 0; round < ROUNDS; round++) {
                    round(groups, ranks.rank(), round);
                }
                for (Group group : groups) {
                    group.close();
                }
                ranks.barrier();
            }
            System.out.println("all groups meet");
        }

        private static void round(Group[] groups, int rank, int round) throws InterruptedException {
            for (int i = 0; i < COUNT; i++) {
                groups[i].post(value(rank, i, round));
            }
            for (int i = 0; i < COUNT; i++) {
                int group = rank == 0 ? i : COUNT - 1 - i;
                if ((round + group + rank) % 4 == 0) {
                    Thread.sleep(3);
                }
                groups[group].await();
            }
            for (Group group : groups) {
                group.sum();
            }
            for (int i = 0; i < COUNT; i++) {
                groups[i].check(value(rank, i, round), value(1 - rank, i, round));
            }
        }

        /** Returns the byte that a rank fills its buffer of a group with. */
        private static int value(int rank, int group, int round) {
            return 1 + (rank * 31 + group * 5 + round) % 60;
        }
    }

    /** A group with a stream of its own, and what it sends and gets. */
    private record Group(Communicator ranks, Stream stream, DeviceBuffer sent, DeviceBuffer got) {
        static Group of(Communicator all) {
            Communicator ranks = all.split(0, all.rank());
            Stream stream = Stream.create(all.device());
            ranks.stream(stream.handle());
            return new Group(
                    ranks,
                    stream,
                    DeviceBuffer.allocate(all.device(), Groups.BYTES),
                    DeviceBuffer.allocate(all.device(), Groups.BYTES));
        }

        void post(int value) {
            int peer = 1 - ranks.rank();
            sent.fill(value, stream.handle());
            ranks.post(sent.address(), Groups.BYTES, peer, got.address(), Groups.BYTES, peer);
        }

        void await() {
            ranks.await();
        }

        void sum() {
            ranks.allReduce(sent.address(), Groups.BYTES / 4, DType.FLOAT32);
        }

        void check(int own, int peers) {
            ranks.synchronize();
            require(got, element(peers));
            require(sent, element(own) + element(peers));
        }

        private static float element(int value) {
            return Float.intBitsToFloat(value * 0x01010101);
        }

        private static void require(DeviceBuffer memory, float expected) {
            FloatPointer values = new FloatPointer(Groups.BYTES / 4);
            memory.download(values);
            for (int i = 0; i < Groups.BYTES / 4; i++) {
                if (values.get(i) != expected) {
                    throw new AssertionError(i + ": " + values.get(i) + " in place of " + expected);
                }
            }
        }

        void close() {
            ranks.close();
            stream.close();
            sent.close();
            got.close();
        }
    }

    @Test
    void callsAllocateNothing() throws Exception {
        all(Measured.class, 3, "allocates nothing");
    }

    static final class Measured {
        private Measured() {}

        public static void main(String[] args) {
            try (Communicator ranks = join(DEADLINE);
                    DeviceBuffer memory = DeviceBuffer.allocate(ranks.device(), 4096)) {
                Transfers batch = new Transfers();
                long[] parts = {8, 0, 16};
                long bytes = HeapBytes.of(() -> EveryVerb.call(ranks, memory.address(), batch, parts));
                ranks.barrier();
                System.out.println(
                        bytes < HeapBytes.OF_AN_OBJECT_A_CALL ? "allocates nothing" : "allocates " + bytes + " bytes");
            }
        }
    }

    /** Buffers that come and go while a group stays, and groups that come and go. */
    @Test
    void nothingIsLeftBehind() throws Exception {
        all(Churn.class, 2, "nothing is left");
    }

    static final class Churn {
        private Churn() {}

        public static void main(String[] args) {
            groups(3); // what the driver keeps for good
            Device device;
            try (Communicator ranks = join(DEADLINE)) {
                device = ranks.device(); // asking for the memory of another would make a context there
                buffers(ranks, 5);
                ranks.barrier();
                long before = free(device);
                buffers(ranks, 50);
                ranks.barrier();
                requireFree(before, free(device));
                ranks.barrier();
            }
            long before = free(device);
            groups(50);
            requireFree(before, free(device));
            System.out.println("nothing is left");
        }

        private static long free(Device device) {
            return Cuda.memory(device).free();
        }

        /** Other processes on the GPU come and go by some MiB; a buffer that stayed would be 64. */
        private static void requireFree(long before, long after) {
            if (before - after > 200L << 20) {
                throw new AssertionError((before - after) + " bytes are left");
            }
        }

        private static void groups(int count) {
            for (int i = 0; i < count; i++) {
                try (Communicator ranks = join(DEADLINE)) {
                    buffers(ranks, 1);
                    ranks.barrier();
                }
            }
        }

        private static void buffers(Communicator ranks, int count) {
            long bytes = 32L << 20;
            for (int i = 0; i < count; i++) {
                try (DeviceBuffer memory = DeviceBuffer.allocate(ranks.device(), 2 * bytes)) {
                    int peer = 1 - ranks.rank();
                    ranks.post(memory.address(), bytes, peer, memory.address() + bytes, bytes, peer);
                    ranks.await();
                    ranks.synchronize();
                    ranks.barrier();
                }
            }
        }
    }
}
