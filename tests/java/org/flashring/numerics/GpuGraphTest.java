package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import org.bytedeco.javacpp.BytePointer;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Event;
import org.flashring.device.Memory;
import org.flashring.device.Stream;
import org.flashring.plan.Plan;
import org.flashring.support.GpuGraph;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Forward and backward captured in a CUDA graph and replayed on other inputs give the bits of plain calls. */
class GpuGraphTest {
    private static final Device GPU = Device.cuda(0);
    private static final Duration DEADLINE = Duration.ofSeconds(30);
    private static final long HEADS = 4;
    private static final long KV_HEADS = 2;
    private static final long ALIGNMENT = 256;

    private static Plan plan(int tokens, int world, long dim) {
        return Plan.of(
                AttentionShape.of(1, HEADS, KV_HEADS, dim, DType.BFLOAT16),
                Layout.zigzag(tokens, world),
                Mask.causal(),
                AttentionOptions.defaults().onCuda().asDeterministic());
    }

    @RequiresGpu
    @ParameterizedTest
    @CsvSource({"64", "128", "256", "100"})
    void oneDevice(long dim) {
        int tokens = 333;
        try (FlashAttention attention = new FlashAttention(plan(tokens, 1, dim), GPU);
                Stream stream = Stream.create(GPU);
                Operands t = new Operands(tokens, dim)) {
            long s = stream.handle();
            t.draw(0);
            t.pass(attention, s); // loads the kernels
            stream.synchronize();
            GpuGraph.begin(s);
            t.pass(attention, s);
            try (GpuGraph graph = GpuGraph.end(s)) {
                for (int replay = 1; replay <= 50; replay++) {
                    t.draw(replay);
                    t.spoil(stream);
                    graph.launch(s);
                    byte[] replayed = t.results(stream);
                    t.spoil(stream);
                    t.pass(attention, s);
                    assertThat(Arrays.mismatch(replayed, t.results(stream)))
                            .as("first byte of replay %d that differs", replay)
                            .isEqualTo(-1);
                }
            }
        }
    }

    /** Each rank's stream joins the capture of the first one's by an event, and is joined to it at its end. */
    @RequiresGpu
    @ParameterizedTest
    @CsvSource({"2, 64", "3, 128"})
    void ringOverThreads(int world, long dim) throws Exception {
        Plan plan = plan(world * 200, world, dim);
        List<Communicator> ranks = LocalGroup.create(Collections.nCopies(world, GPU), DEADLINE);
        CyclicBarrier together = new CyclicBarrier(world);
        try (Event fork = Event.create(GPU)) {
            Event[] joined = new Event[world];
            GpuGraph[] graph = new GpuGraph[1];
            List<CompletableFuture<Void>> threads = new ArrayList<>();
            for (Communicator communicator : ranks) {
                CompletableFuture<Void> done = new CompletableFuture<>();
                threads.add(done);
                new Thread(() -> {
                            try (communicator) {
                                rank(plan, communicator, dim, together, fork, joined, graph);
                                done.complete(null);
                            } catch (Throwable e) {
                                done.completeExceptionally(e);
                                communicator.abort(e);
                                together.reset(); // the others come out of it
                            }
                        })
                        .start();
            }
            for (CompletableFuture<Void> thread : threads) {
                thread.get(120, TimeUnit.SECONDS);
            }
        }
    }

    private static void rank(
            Plan plan,
            Communicator communicator,
            long dim,
            CyclicBarrier together,
            Event fork,
            Event[] joined,
            GpuGraph[] graph)
            throws Exception {
        int rank = communicator.rank();
        long tokens = plan.queries().localLength(rank);
        try (RingAttention ring = new RingAttention(plan, communicator);
                Stream stream = Stream.create(GPU);
                Event end = Event.create(GPU);
                Operands t = new Operands(tokens, dim)) {
            long s = stream.handle();
            joined[rank] = end;
            t.draw(100 * rank);
            t.pass(ring, s);
            communicator.synchronize();
            together.await();
            if (rank == 0) {
                GpuGraph.begin(s);
                fork.record(s);
            }
            together.await();
            if (rank > 0) {
                stream.await(fork);
            }
            t.pass(ring, s);
            end.record(s);
            together.await();
            if (rank == 0) {
                for (int other = 1; other < joined.length; other++) {
                    stream.await(joined[other]);
                }
                graph[0] = GpuGraph.end(s);
            }
            for (int replay = 1; replay <= 10; replay++) {
                t.draw(100 * rank + replay);
                t.spoil(stream);
                stream.synchronize();
                together.await();
                if (rank == 0) {
                    graph[0].launch(s);
                    stream.synchronize();
                }
                together.await();
                byte[] replayed = t.results(stream);
                t.spoil(stream);
                t.pass(ring, s);
                communicator.synchronize();
                assertThat(Arrays.mismatch(replayed, t.results(stream)))
                        .as("first byte of rank %d, replay %d, that differs", rank, replay)
                        .isEqualTo(-1);
                together.await(); // nobody launches while a rank is still at plain calls
            }
            if (rank == 0) {
                graph[0].close();
            }
        }
    }

    @RequiresGpu(nccl = true)
    @Test
    void ncclRefuses() {
        try (Communicator alone = NcclGroup.create(List.of(GPU), DEADLINE).get(0);
                Stream stream = Stream.create(GPU)) {
            GpuGraph.begin(stream.handle());
            try {
                assertThatThrownBy(() -> alone.stream(stream.handle()))
                        .isInstanceOf(UnsupportedOperationException.class)
                        .hasMessageContaining("captured in a CUDA graph")
                        .hasMessageContaining("LocalGroup");
            } finally {
                GpuGraph.end(stream.handle()).close();
            }
            alone.stream(stream.handle());
            alone.barrier();
        }
    }

    /** A rank's tensors: inputs in one piece of device memory, results in another. */
    private static final class Operands implements AutoCloseable {
        private final DeviceBuffer inputs;
        private final DeviceBuffer results;
        private final Tensor q;
        private final Tensor k;
        private final Tensor v;
        private final Tensor dout;
        private final Tensor out;
        private final Tensor dq;
        private final Tensor dk;
        private final Tensor dv;
        private final Tensor lse;
        private long taken; // bytes of the piece at hand

        Operands(long tokens, long dim) {
            long perToken = (2 * HEADS + 2 * KV_HEADS) * dim * 2;
            inputs = DeviceBuffer.allocate(GPU, tokens * perToken + 4 * ALIGNMENT);
            results = DeviceBuffer.allocate(GPU, tokens * (perToken + HEADS * 4) + 5 * ALIGNMENT);
            q = tensor(inputs, tokens, HEADS, dim);
            k = tensor(inputs, tokens, KV_HEADS, dim);
            v = tensor(inputs, tokens, KV_HEADS, dim);
            dout = tensor(inputs, tokens, HEADS, dim);
            taken = 0;
            out = tensor(results, tokens, HEADS, dim);
            dq = tensor(results, tokens, HEADS, dim);
            dk = tensor(results, tokens, KV_HEADS, dim);
            dv = tensor(results, tokens, KV_HEADS, dim);
            lse = Tensor.lse(piece(results, tokens * HEADS * 4), DType.FLOAT32, 1, HEADS, tokens);
        }

        private Memory piece(DeviceBuffer of, long bytes) {
            Memory piece = of.memory().slice(taken, bytes);
            taken += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            return piece;
        }

        private Tensor tensor(DeviceBuffer of, long tokens, long heads, long dim) {
            return Tensor.bshd(piece(of, tokens * heads * dim * 2), DType.BFLOAT16, 1, tokens, heads, dim);
        }

        /** Puts other inputs where the first lay. */
        void draw(int seed) {
            Random random = new Random(seed);
            byte[] values = new byte[Math.toIntExact(inputs.bytes())];
            for (int i = 0; i < values.length; i += 2) {
                int bits = Float.floatToRawIntBits((float) random.nextGaussian());
                values[i] = (byte) (bits >>> 16);
                values[i + 1] = (byte) (bits >>> 24);
            }
            try (BytePointer host = new BytePointer(values)) {
                inputs.upload(host);
            }
        }

        /** Makes all results NaN. */
        void spoil(Stream stream) {
            results.fill(0xFF, stream.handle());
        }

        void pass(FlashAttention attention, long stream) {
            attention.forward(q, k, v, out, lse, stream);
            attention.backward(q, k, v, out, lse, dout, dq, dk, dv, stream);
        }

        void pass(RingAttention ring, long stream) {
            ring.forward(q, k, v, out, lse, stream);
            ring.backward(q, k, v, out, lse, dout, dq, dk, dv, stream);
        }

        /** Returns the bytes of all results, once the stream has come to them. */
        byte[] results(Stream stream) {
            stream.synchronize();
            byte[] all = new byte[Math.toIntExact(results.bytes())];
            try (BytePointer host = new BytePointer(all.length)) {
                results.download(host);
                host.get(all);
            }
            return all;
        }

        @Override
        public void close() {
            inputs.close();
            results.close();
        }
    }
}
