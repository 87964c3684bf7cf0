package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.bytedeco.javacpp.BytePointer;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Event;
import org.flashring.plan.Plan;
import org.flashring.support.DeviceCopies;
import org.flashring.support.MaskRule;
import org.flashring.support.Placement;
import org.flashring.support.Problem;
import org.flashring.support.RankTensors;
import org.flashring.support.RequiresGpu;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.flashring.support.TestTensor;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** Backward gives the same bits every time when asked to, while other kernels and copies take turns on the same GPU. */
class GpuDeterminismTest {
    private static final int REPEATS = 50;
    private static final Device GPU = Device.cuda(0);

    private static final List<Problem> PROBLEMS = List.of(
            problem(1, 8, 2, 64, 64, DType.BFLOAT16, 1537, MaskRule.CAUSAL),
            problem(1, 8, 8, 128, 128, DType.BFLOAT16, 1024, MaskRule.FULL),
            problem(2, 4, 1, 96, 96, DType.FLOAT16, 777, MaskRule.FULL.window(200, 0)),
            problem(1, 4, 2, 192, 128, DType.BFLOAT16, 1301, MaskRule.CAUSAL),
            problem(1, 4, 4, 256, 256, DType.FLOAT16, 901, MaskRule.FULL),
            problem(1, 32, 8, 128, 128, DType.BFLOAT16, 515, MaskRule.CAUSAL.documents(0, 130, 130, 391, 515)));

    private static Problem problem(
            int batch, int heads, int kvHeads, int headDim, int valueDim, DType dtype, int length, MaskRule mask) {
        return Problem.of(new AttentionShape(batch, heads, kvHeads, headDim, valueDim, dtype), length, mask, length);
    }

    @TestFactory
    @RequiresGpu
    Stream<DynamicTest> repeatsAreBitwiseEqual() {
        return PROBLEMS.stream().map(problem -> DynamicTest.dynamicTest(problem.toString(), () -> check(problem)));
    }

    private static void check(Problem problem) {
        RingRun run = RingRun.of(problem, Layout.contiguous(problem.queryLength(), 1));
        Plan plan =
                run.with(AttentionOptions.defaults().onCuda().asDeterministic()).plan();
        Positions all = plan.queries().positions(0);
        RankTensors t = new RankTensors(problem.shape(), all, all, Placement.DENSE, DType.FLOAT32);
        t.scatter(problem.inputs());
        try (Noise noise = new Noise();
                Communicator single = LocalGroup.single(GPU);
                RingAttention ring = new RingAttention(plan, single);
                DeviceCopies on = new DeviceCopies(GPU);
                org.flashring.device.Stream stream = org.flashring.device.Stream.create(GPU);
                Gradient dq = new Gradient(t.dq);
                Gradient dk = new Gradient(t.dk);
                Gradient dv = new Gradient(t.dv)) {
            ring.forward(
                    on.tensor(t.q),
                    on.tensor(t.k),
                    on.tensor(t.v),
                    on.tensor(t.out),
                    on.tensor(t.lse),
                    stream.handle());
            on.tensor(t.dout);
            int busy = 0;
            for (int repeat = 0; repeat < REPEATS; repeat++) {
                noise.queue();
                List.of(dq, dk, dv)
                        .forEach(gradient -> gradient.memory.fill(0xFF, stream.handle())); // NaN until written
                ring.backward(
                        on.tensor(t.q),
                        on.tensor(t.k),
                        on.tensor(t.v),
                        on.tensor(t.out),
                        on.tensor(t.lse),
                        on.tensor(t.dout),
                        dq.tensor,
                        dk.tensor,
                        dv.tensor,
                        stream.handle());
                single.synchronize();
                busy += noise.isDone() ? 0 : 1;
                dq.requireSame("dq", repeat);
                dk.requireSame("dk", repeat);
                dv.requireSame("dv", repeat);
            }
            assertThat(busy).as("repeats that other work outlasted").isGreaterThan(REPEATS / 2);
            List.of(dq, dk, dv).forEach(Gradient::deliver);
            on.download();
        }
        Result result = Result.none(problem);
        t.gather(result);
        Result expected = run.run(); // on the host
        result.differences(expected).forEach((name, difference) -> assertThat(difference.error())
                .as("%s is off by %s", name, difference)
                .isLessThanOrEqualTo(0.05 * Math.max(1, expected.largest(name))));
    }

    /** A gradient on the device, and its bits of the first repeat. */
    private static final class Gradient implements AutoCloseable {
        private final TestTensor host;
        private final DeviceBuffer memory;
        private final Tensor tensor;
        private byte[] first;

        Gradient(TestTensor host) {
            this.host = host;
            memory = DeviceBuffer.allocate(GPU, host.tensor().memory().bytes());
            tensor = Tensor.bshd(
                    memory.memory(), host.buffer().dtype(), host.batch(), host.length(), host.heads(), host.dim());
        }

        void requireSame(String name, int repeat) {
            byte[] now = new byte[Math.toIntExact(memory.bytes())];
            try (BytePointer bytes = new BytePointer(memory.bytes())) {
                memory.download(bytes);
                bytes.get(now);
            }
            first = repeat == 0 ? now : first;
            assertThat(Arrays.mismatch(first, now))
                    .as("first byte of %s that differs in repeat %d", name, repeat)
                    .isEqualTo(-1);
        }

        /** Copies the gradient to where the host wants it. */
        void deliver() {
            memory.copyToHost(host.tensor().address(), memory.bytes(), 0);
        }

        @Override
        public void close() {
            memory.close();
        }
    }

    /** Attention, copies and fills in a stream of their own. */
    private static final class Noise implements AutoCloseable {
        private static final int ROUNDS = 16;
        private static final int LENGTH = 4096;
        private static final int HEADS = 4;
        private static final AttentionShape SHAPE = AttentionShape.of(1, HEADS, HEADS, 64, DType.BFLOAT16);

        private final Communicator single = LocalGroup.single(GPU);
        private final RingAttention ring = new RingAttention(
                Plan.of(
                        SHAPE,
                        Layout.contiguous(LENGTH, 1),
                        Mask.full(),
                        AttentionOptions.defaults().onCuda()),
                single);
        private final org.flashring.device.Stream stream = org.flashring.device.Stream.create(GPU);
        private final Event end = Event.create(GPU);
        private final List<DeviceBuffer> buffers = new ArrayList<>();
        private final Tensor input = tensor();
        private final Tensor out = tensor();
        private final Tensor dq = tensor();
        private final Tensor dk = tensor();
        private final Tensor dv = tensor();
        private final Tensor lse = Tensor.lse(memory(4L * LENGTH * HEADS).memory(), DType.FLOAT32, 1, HEADS, LENGTH);
        private final DeviceBuffer from = memory(64 << 20);
        private final DeviceBuffer to = memory(64 << 20);

        private Tensor tensor() {
            return Tensor.bshd(memory(2L * LENGTH * HEADS * 64).memory(), DType.BFLOAT16, 1, LENGTH, HEADS, 64);
        }

        private DeviceBuffer memory(long bytes) {
            DeviceBuffer buffer = DeviceBuffer.allocate(GPU, bytes);
            buffers.add(buffer);
            buffer.fill(0x3C, stream.handle()); // about 0.01 in bfloat16
            return buffer;
        }

        void queue() {
            for (int i = 0; i < ROUNDS; i++) {
                ring.forward(input, input, input, out, lse, stream.handle());
                to.copyFromHost(from.address(), from.bytes(), stream.handle()); // any address that the device can read
                ring.backward(input, input, input, out, lse, input, dq, dk, dv, stream.handle());
                from.fill(i, stream.handle());
            }
            end.record(stream.handle());
        }

        boolean isDone() {
            return end.isDone();
        }

        @Override
        public void close() {
            stream.synchronize();
            buffers.forEach(DeviceBuffer::close);
            end.close();
            ring.close();
            single.close();
            stream.close();
        }
    }
}
