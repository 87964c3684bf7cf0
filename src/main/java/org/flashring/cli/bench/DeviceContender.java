package org.flashring.cli.bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.util.function.Consumer;
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
    private final Device device;
    private final AttentionShape shape;
    private final long length;
    private final boolean causal;
    private final FlashAttention attention;
    private final TensorMath math;
    private Operands on;

    private DeviceContender(BenchCase bench, Kernel kernel, Device device) {
        this.device = device;
        this.shape = bench.shape();
        this.length = bench.length();
        this.causal = bench.causal();
        AttentionOptions options = AttentionOptions.defaults().withKernel(kernel);
        Plan plan = Plan.of(
                shape, Layout.contiguous(length, 1), bench.mask(), device.isCuda() ? options.onCuda() : options);
        this.attention = new FlashAttention(plan, device);
        this.math = new TensorMath(device);
    }

    /** Returns the fastest kernel on inputs from N(0, 1), dense [batch, length, heads, dim]. */
    static DeviceContender drawn(BenchCase bench, Device device) {
        return new DeviceContender(bench, Kernel.AUTO, device).filled(drawn -> drawn.on.draw(drawn.math, 1));
    }

    /**
     * Returns the plain formula in float64 on the first key head of this one's first sequence, with the query heads
     * that share it.
     */
    DeviceContender exactFirstHead() {
        AttentionShape one =
                AttentionShape.of(1, shape.queryHeads() / shape.kvHeads(), 1, shape.headDim(), DType.FLOAT64);
        return new DeviceContender(new BenchCase(one, length, causal), Kernel.REFERENCE, device).filled(exact -> {
            exact.math.convert(exact.on.q, first(exact.on.q.heads(), on.q));
            exact.math.convert(exact.on.k, first(exact.on.k.heads(), on.k));
            exact.math.convert(exact.on.v, first(exact.on.v.heads(), on.v));
            exact.math.convert(exact.on.dout, first(exact.on.dout.heads(), on.dout));
        });
    }

    private DeviceContender filled(Consumer<DeviceContender> fill) {
        try {
            on = new Operands(device, shape, length);
            fill.accept(this);
            return this;
        } catch (RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    void forward() {
        attention.forward(on.q, on.k, on.v, on.out, on.lse);
    }

    /** Takes what the last forward wrote. */
    void backward() {
        attention.backward(on.q, on.k, on.v, on.out, on.lse, on.dout, on.dq, on.dk, on.dv);
    }

    /** Waits for everything that is queued. */
    void synchronize() {
        if (device.isCuda()) {
            org.flashring.device.Stream.wrap(device, 0).synchronize();
        }
    }

    /** Returns the largest |out - exact.out|, {@code exact} being this one's {@link #exactFirstHead}. */
    double outputError(DeviceContender exact) {
        return largestDifference(on.out, exact.on.out);
    }

    /** Returns the largest difference over dq, dk and dv. */
    double gradientError(DeviceContender exact) {
        return Math.max(
                largestDifference(on.dq, exact.on.dq),
                Math.max(largestDifference(on.dk, exact.on.dk), largestDifference(on.dv, exact.on.dv)));
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
            math.convert(
                    Tensor.bshd(
                            staging.memory(),
                            DType.FLOAT64,
                            tensor.batch(),
                            tensor.length(),
                            tensor.heads(),
                            tensor.dim()),
                    tensor);
            math.copyBytes(Native.address(host), staging.address(), host.capacity());
            synchronize();
        }
        return host.asDoubleBuffer();
    }

    @Override
    public void close() {
        attention.close();
        math.close();
        if (on != null) {
            on.close();
        }
    }
}
