package org.flashring.cli.bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.FlashAttention;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Memory;
import org.flashring.Plan;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.device.Stream;
import org.flashring.internal.Combiner;

/** This library on memory of a device, its own or what another contender reads; calls are queued on the device's default stream. */
final class DeviceContender implements AutoCloseable {
    private static final int CHUNK = 1 << 16; // elements drawn by one thread

    private final Device device;
    private final AttentionShape shape;
    private final long length;
    private final FlashAttention attention;
    private final Combiner combiner;
    private final List<OwnedMemory> buffers = new ArrayList<>();
    private Tensor q;
    private Tensor k;
    private Tensor v;
    private Tensor dout;
    private Tensor out;
    private Tensor lse;
    private Tensor dq;
    private Tensor dk;
    private Tensor dv;

    private DeviceContender(BenchCase bench, Kernel kernel, Device device) {
        this.device = device;
        this.shape = bench.shape();
        this.length = bench.length();
        AttentionOptions options = AttentionOptions.defaults().withKernel(kernel);
        Plan plan = Plan.of(shape, Layout.contiguous(length, 1), bench.mask(), device.isCuda() ? options.onCuda() : options);
        this.attention = new FlashAttention(plan, device);
        this.combiner = new Combiner(device);
    }

    /** Returns the fastest kernel on inputs from N(0, 1), dense [batch, length, heads, dim]. */
    static DeviceContender drawn(BenchCase bench, Device device) {
        DeviceContender contender = new DeviceContender(bench, Kernel.AUTO, device);
        try {
            contender.allocate();
            contender.draw(List.of(contender.q, contender.k, contender.v, contender.dout));
            return contender;
        } catch (RuntimeException | Error e) {
            contender.close();
            throw e;
        }
    }

    /** Returns the plain formula in float64 on the first key head of {@code other}'s first sequence, with the query heads that share it. */
    static DeviceContender exactFirstHead(BenchCase bench, DeviceContender other) {
        AttentionShape all = bench.shape();
        AttentionShape one = AttentionShape.of(1, all.queryHeads() / all.kvHeads(), 1, all.headDim(), DType.FLOAT64);
        DeviceContender contender = new DeviceContender(new BenchCase(one, bench.length(), bench.causal()), Kernel.REFERENCE, other.device);
        try {
            contender.allocate();
            contender.combiner.convert(contender.q, contender.firstOf(other.q));
            contender.combiner.convert(contender.k, contender.firstOf(other.k));
            contender.combiner.convert(contender.v, contender.firstOf(other.v));
            contender.combiner.convert(contender.dout, contender.firstOf(other.dout));
            return contender;
        } catch (RuntimeException | Error e) {
            contender.close();
            throw e;
        }
    }

    private void allocate() {
        q = tensor(shape.dtype(), shape.queryHeads(), shape.headDim());
        k = tensor(shape.dtype(), shape.kvHeads(), shape.headDim());
        v = tensor(shape.dtype(), shape.kvHeads(), shape.valueDim());
        dout = tensor(shape.dtype(), shape.queryHeads(), shape.valueDim());
        out = tensor(shape.dtype(), shape.queryHeads(), shape.valueDim());
        lse = tensor(shape.dtype().accumulator(), shape.queryHeads(), 1);
        dq = tensor(shape.dtype(), shape.queryHeads(), shape.headDim());
        dk = tensor(shape.dtype(), shape.kvHeads(), shape.headDim());
        dv = tensor(shape.dtype(), shape.kvHeads(), shape.valueDim());
    }

    private Tensor tensor(DType dtype, long heads, long dim) {
        OwnedMemory buffer = OwnedMemory.allocate(device, shape.batch() * length * heads * dim * dtype.bytes());
        buffers.add(buffer);
        return Tensor.bshd(buffer.memory(), dtype, shape.batch(), length, heads, dim);
    }

    /** Fills the tensors chunk by chunk through a staging buffer of float64. */
    private void draw(List<Tensor> tensors) {
        int chunks = Math.max(1, Runtime.getRuntime().availableProcessors());
        ByteBuffer drawn = ByteBuffer.allocateDirect(chunks * CHUNK * Double.BYTES).order(ByteOrder.nativeOrder());
        DoubleBuffer values = drawn.asDoubleBuffer();
        SplittableRandom seeds = new SplittableRandom(1);
        try (OwnedMemory staging = OwnedMemory.allocate(device, drawn.capacity())) {
            for (Tensor tensor : tensors) {
                for (long start = 0; start < tensor.elements(); start += values.capacity()) {
                    SplittableRandom[] random = IntStream.range(0, chunks).mapToObj(i -> seeds.split()).toArray(SplittableRandom[]::new);
                    IntStream.range(0, values.capacity() / CHUNK).parallel().forEach(chunk -> {
                        for (int i = chunk * CHUNK; i < (chunk + 1) * CHUNK; i++) {
                            values.put(i, random[chunk].nextGaussian());
                        }
                    });
                    combiner.copyBytes(staging.address(), Memory.of(drawn).address(), drawn.capacity());
                    combiner.convert(tensor.address() + start * tensor.dtype().bytes(), tensor.dtype(), staging.address(), DType.FLOAT64,
                            Math.min(values.capacity(), tensor.elements() - start));
                    synchronize();
                }
            }
        }
    }

    void forward() {
        attention.forward(q, k, v, out, lse);
    }

    /** Takes what the last forward wrote. */
    void backward() {
        attention.backward(q, k, v, out, lse, dout, dq, dk, dv);
    }

    /** Waits for everything that is queued. */
    void synchronize() {
        if (device.isCuda()) {
            Stream.wrap(device, 0).synchronize();
        }
    }

    /** Returns the largest |other's out - out|, this being exactFirstHead of the other. */
    double outputError(DeviceContender other) {
        return largestDifference(out, other.out);
    }

    /** Returns the largest difference over dq, dk and dv, this being exactFirstHead of the other. */
    double gradientError(DeviceContender other) {
        return Math.max(largestDifference(dq, other.dq), Math.max(largestDifference(dk, other.dk), largestDifference(dv, other.dv)));
    }

    private double largestDifference(Tensor exact, Tensor whole) {
        double[] expected = onHost(exact);
        double[] actual = onHost(firstOf(whole));
        double largest = 0;
        for (int i = 0; i < expected.length; i++) {
            largest = Math.max(largest, Math.abs(actual[i] - expected[i])); // NaN stays
        }
        return largest;
    }

    /** Returns the heads that this contender has, out of all heads and sequences. */
    private Tensor firstOf(Tensor whole) {
        long heads = whole.heads() == 0 ? 0 : headsOf(whole);
        return Tensor.strided(whole.memory(), whole.dtype(), 1, length, heads, whole.dim(), whole.strideBatch(), whole.strideLength(), whole.strideHead());
    }
}
