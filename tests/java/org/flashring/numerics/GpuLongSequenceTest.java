package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.plan.Plan;
import org.flashring.support.DeviceTensors;
import org.flashring.support.HostMemory;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Long causal sequences on two GPUs, forward and backward: they finish, take the device memory that the plan said, and
 * none of the host's.
 */
@RequiresGpu(value = 2, nccl = true)
class GpuLongSequenceTest {
    private static final long MIB = 1 << 20;
    private static final AttentionShape SHAPE = AttentionShape.of(1, 32, 8, 128, DType.BFLOAT16);

    @ParameterizedTest
    @ValueSource(longs = {131_072, 1_048_576})
    void takesTheMemoryThatThePlanSaid(long length) {
        Plan plan = Plan.of(
                SHAPE,
                Layout.zigzag(length, 2),
                Mask.causal(),
                AttentionOptions.defaults().onCuda());
        List<CompletableFuture<String>> ranks = new ArrayList<>();
        for (Communicator communicator :
                NcclGroup.create(List.of(Device.cuda(0), Device.cuda(1)), Duration.ofSeconds(60))) {
            CompletableFuture<String> done = new CompletableFuture<>();
            ranks.add(done);
            new Thread(() -> {
                        String line = "";
                        try (communicator) {
                            line = run(plan, communicator);
                        } catch (Throwable e) {
                            done.completeExceptionally(e);
                        }
                        done.complete(line);
                    })
                    .start();
        }
        for (CompletableFuture<String> rank : ranks) {
            assertThat(rank).succeedsWithin(Duration.ofSeconds(200));
            System.out.println(rank.join());
        }
    }

    private static String run(Plan plan, Communicator communicator) {
        int rank = communicator.rank();
        long tokens = plan.queries().localLength(rank);
        warmUp(communicator);
        long before = Cuda.memory(communicator.device()).free();
        try (DeviceTensors on = new DeviceTensors(communicator.device());
                RingAttention ring = new RingAttention(plan, communicator)) {
            Tensor q = on.make(tokens, 32, 128);
            Tensor k = on.make(tokens, 8, 128);
            Tensor v = on.make(tokens, 8, 128);
            Tensor out = on.make(tokens, 32, 128);
            Tensor dout = on.make(tokens, 32, 128);
            Tensor dq = on.make(tokens, 32, 128);
            Tensor dk = on.make(tokens, 8, 128);
            Tensor dv = on.make(tokens, 8, 128);
            Tensor lse = on.lse(tokens, 32);
            communicator.barrier(); // everybody's buffers are there
            try (HostMemory host = new HostMemory()) {
                long start = System.nanoTime();
                ring.forward(q, k, v, out, lse);
                communicator.synchronize();
                long middle = System.nanoTime();
                ring.backward(q, k, v, out, lse, dout, dq, dk, dv);
                communicator.synchronize();
                long end = System.nanoTime();
                long grown = host.most() - host.first();
                long used = before - Cuda.memory(communicator.device()).free();
                long planned = plan.bytesHeld(rank) + plan.callerBytes(rank);
                assertThat((double) used / planned).isBetween(0.95, 1.05);
                assertThat(grown)
                        .as("host memory that the process took between the first step and the last")
                        .isLessThan(64 * MIB);
                communicator.barrier();
                return String.format(
                        Locale.ROOT,
                        "%,d tokens, rank %d: forward %.3f s (%.0f TFLOP/s), backward %.3f s (%.0f TFLOP/s), "
                                + "%,d bytes of device memory, planned %,d; %,d bytes of host memory, then at"
                                + " most %,d more",
                        plan.queries().length(),
                        rank,
                        (middle - start) / 1e9,
                        plan.forwardFlops(rank) / (middle - start) / 1e3,
                        (end - middle) / 1e9,
                        2.5 * plan.forwardFlops(rank) / (end - middle) / 1e3,
                        used,
                        planned,
                        host.first(),
                        grown);
            }
        }
    }

    /** Brings in what CUDA loads at first use, kernels and their stacks, which is nobody's plan. */
    private static void warmUp(Communicator communicator) {
        Plan small = Plan.of(
                SHAPE,
                Layout.zigzag(512, 2),
                Mask.causal(),
                AttentionOptions.defaults().onCuda());
        long tokens = small.queries().localLength(communicator.rank());
        try (DeviceTensors on = new DeviceTensors(communicator.device());
                RingAttention ring = new RingAttention(small, communicator)) {
            Tensor lse = on.lse(tokens, 32);
            Tensor q = on.make(tokens, 32, 128);
            Tensor k = on.make(tokens, 8, 128);
            Tensor v = on.make(tokens, 8, 128);
            Tensor out = on.make(tokens, 32, 128);
            ring.forward(q, k, v, out, lse);
            ring.backward(
                    q,
                    k,
                    v,
                    out,
                    lse,
                    on.make(tokens, 32, 128),
                    on.make(tokens, 32, 128),
                    on.make(tokens, 8, 128),
                    on.make(tokens, 8, 128));
            communicator.barrier();
        }
    }
}
