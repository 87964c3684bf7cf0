package org.flashring.cli.bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Native;
import org.flashring.kernel.TensorMath;
import org.flashring.plan.Plan;

/** This library on its own memory of the host or of a GPU, where calls are queued on the default stream and return. */
final class DeviceContender implements AutoCloseable {
    private static final int CHUNK = 1 << 16; // elements that one thread draws
    private static final int CHUNKS = 64; // drawn at a time

    private final Device device;
    private final AttentionShape shape;
    private final long length;
    private final boolean causal;
    private final FlashAttention attention;
    private final TensorMath combiner;
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
        this.causal = bench.causal();
        AttentionOptions options = AttentionOptions.defaults().withKernel(kernel);
        Plan plan = Plan.of(
                shape, Layout.contiguous(length, 1), bench.mask(), device.isCuda() ? options.onCuda() : options);
        this.attention = new FlashAttention(plan, device);
        this.combiner = new TensorMath(device);
    }

    /** Returns the fastest kernel on inputs from N(0, 1), dense [batch, length, heads, dim]. */
    static DeviceContender drawn(BenchCase bench, Device device) {
        return new DeviceContender(bench, Kernel.AUTO, device).filled(DeviceContender::draw);
    }

    /**
     * Returns the plain formula in float64 on the first key head of this one's first sequence, with the query heads
     * that share it.
     */
    DeviceContender exactFirstHead() {
        AttentionShape one =
                AttentionShape.of(1, shape.queryHeads() / shape.kvHeads(), 1, shape.headDim(), DType.FLOAT64);
        return new DeviceContender(new BenchCase(one, length, causal), Kernel.REFERENCE, device).filled(exact -> {
            exact.combiner.convert(exact.q, first(exact.q.heads(), q));
            exact.combiner.convert(exact.k, first(exact.k.heads(), k));
            exact.combiner.convert(exact.v, first(exact.v.heads(), v));
            exact.combiner.convert(exact.dout, first(exact.dout.heads(), dout));
        });
    }

    private DeviceContender filled(Consumer<DeviceContender> fill) {
        try {
            allocate();
            fill.accept(this);
            return this;
        } catch (RuntimeException | Error e) {
            close();
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

    /** Fills the inputs, some chunks at a time, through a staging buffer. */
    private void draw() {
        ByteBuffer drawn =
                ByteBuffer.allocateDirect(CHUNKS * CHUNK * Double.BYTES).order(ByteOrder.nativeOrder());
        DoubleBuffer values = drawn.asDoubleBuffer();
        SplittableRandom seeds = new SplittableRandom(1);
        try (OwnedMemory staging = OwnedMemory.allocate(device, drawn.capacity())) {
            for (Tensor tensor : List.of(q, k, v, dout)) {
                for (long start = 0; start < tensor.elements(); start += values.capacity()) {
                    draw(values, seeds);
                    combiner.copyBytes(staging.address(), Native.address(drawn), drawn.capacity());
                    combiner.convert(
                            tensor.address() + start * tensor.dtype().bytes(),
                            tensor.dtype(),
                            staging.address(),
                            DType.FLOAT64,
                            Math.min(values.capacity(), tensor.elements() - start));
                    synchronize();
                }
            }
        }
    }

    private static void draw(DoubleBuffer values, SplittableRandom seeds) {
        SplittableRandom[] random = Stream.generate(seeds::split).limit(CHUNKS).toArray(SplittableRandom[]::new);
        IntStream.range(0, CHUNKS).parallel().forEach(chunk -> {
            for (int i = chunk * CHUNK; i < (chunk + 1) * CHUNK; i++) {
                values.put(i, random[chunk].nextGaussian());
            }
        });
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
            org.flashring.device.Stream.wrap(device, 0).synchronize();
        }
    }

    /** Returns the largest |out - exact.out|, {@code exact} being this one's {@link #exactFirstHead}. */
    double outputError(DeviceContender exact) {
        return largestDifference(out, exact.out);
    }

    /** Returns the largest difference over dq, dk and dv. */
    double gradientError(DeviceContender exact) {
        return Math.max(
                largestDifference(dq, exact.dq),
                Math.max(largestDifference(dk, exact.dk), largestDifference(dv, exact.dv)));
    }

    private double largestDifference(Tensor result, Tensor exact) {
        DoubleBuffer actual = onHost(first(exact.heads(), result));
        DoubleBuffer expected = onHost(exact);
        double largest = 0;
        for (int i = 0; i < expected.capacity(); i++) {
            largest = Math.max(largest, Math.abs(actual.get(i) - expected.get(i))); // NaN stays
        }
        return largest;
    }

    /** Returns the first heads of the first sequence. */
    private static Tensor first(long heads, Tensor whole) {
        return Tensor.strided(
                whole.memory(),
                whole.dtype(),
                1,
                whole.length(),
                heads,
                whole.dim(),
                whole.strideBatch(),
                whole.strideLength(),
                whole.strideHead());
    }

    private DoubleBuffer onHost(Tensor tensor) {
        ByteBuffer host = ByteBuffer.allocateDirect(Math.toIntExact(tensor.elements() * Double.BYTES))
                .order(ByteOrder.nativeOrder());
        try (OwnedMemory staging = OwnedMemory.allocate(device, host.capacity())) {
            combiner.convert(
                    Tensor.bshd(
                            staging.memory(),
                            DType.FLOAT64,
                            tensor.batch(),
                            tensor.length(),
                            tensor.heads(),
                            tensor.dim()),
                    tensor);
            combiner.copyBytes(Native.address(host), staging.address(), host.capacity());
            synchronize();
        }
        return host.asDoubleBuffer();
    }

    @Override
    public void close() {
        attention.close();
        combiner.close();
        buffers.forEach(OwnedMemory::close);
    }
}
