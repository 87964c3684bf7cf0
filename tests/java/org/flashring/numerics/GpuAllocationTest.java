package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
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
import org.flashring.device.Device;
import org.flashring.plan.Plan;
import org.flashring.support.DeviceTensors;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Forward and backward on GPUs put nothing on the Java heap: no handle, no closure. */
class GpuAllocationTest {
    private static final Duration DEADLINE = Duration.ofSeconds(30);
    private static final int WARM_UP = 5;
    private static final int CALLS = 1000;
    /**
     * The machine charges a thread some hundred bytes when it compiles what it runs; one object a call would be 16,000.
     */
    private static final long COMPILER = 12_000;

    @RequiresGpu
    @ParameterizedTest
    @ValueSource(ints = {1, 4})
    void ranksThatAreThreadsOnOneGpu(int world) throws Exception {
        check(LocalGroup.create(Collections.nCopies(world, Device.cuda(0)), DEADLINE));
    }

    @RequiresGpu(value = 2, nccl = true)
    @Test
    void ranksOfNccl() throws Exception {
        check(NcclGroup.create(List.of(Device.cuda(0), Device.cuda(1)), DEADLINE));
    }

    private static void check(List<Communicator> ranks) throws Exception {
        List<CompletableFuture<Long>> allocated = new ArrayList<>();
        for (Communicator communicator : ranks) {
            CompletableFuture<Long> bytes = new CompletableFuture<>();
            allocated.add(bytes);
            new Thread(() -> {
                        try (communicator) {
                            bytes.complete(allocatedBy(communicator));
                        } catch (Throwable e) {
                            bytes.completeExceptionally(e);
                        }
                    })
                    .start();
        }
        for (CompletableFuture<Long> bytes : allocated) {
            assertThat(bytes).succeedsWithin(Duration.ofSeconds(120));
            assertThat(bytes.get()).isLessThan(COMPILER);
        }
    }

    private static long allocatedBy(Communicator communicator) {
        int tokens = 64;
        Plan plan = Plan.of(
                AttentionShape.of(1, 2, 1, 64, DType.BFLOAT16),
                Layout.zigzag((long) tokens * communicator.worldSize(), communicator.worldSize()),
                Mask.causal(),
                AttentionOptions.defaults().onCuda());
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        try (DeviceTensors memory = new DeviceTensors(communicator.device());
                RingAttention ring = new RingAttention(plan, communicator)) {
            Tensor q = memory.make(tokens, 2, 64);
            Tensor k = memory.make(tokens, 1, 64);
            Tensor v = memory.make(tokens, 1, 64);
            Tensor out = memory.make(tokens, 2, 64);
            Tensor lse = memory.lse(tokens, 2);
            Tensor dout = memory.make(tokens, 2, 64);
            Tensor dq = memory.make(tokens, 2, 64);
            Tensor dk = memory.make(tokens, 1, 64);
            Tensor dv = memory.make(tokens, 1, 64);
            long before = 0;
            for (int call = 0; call < WARM_UP + CALLS; call++) {
                if (call <= WARM_UP) { // asked in warm-up too, for its own first call allocates
                    before = threads.getCurrentThreadAllocatedBytes();
                }
                ring.forward(q, k, v, out, lse);
                ring.backward(q, k, v, out, lse, dout, dq, dk, dv);
            }
            long bytes = threads.getCurrentThreadAllocatedBytes() - before;
            communicator.synchronize();
            return bytes;
        }
    }
}
