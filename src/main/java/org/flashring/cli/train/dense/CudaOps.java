package org.flashring.cli.train.dense;

import org.flashring.DType;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Stream;

/**
 * The operations on one CUDA device, in the order of a stream of their own: products by cuBLASLt, the rest by kernels
 * of {@code cuda/train}. Sums are float32 or wider, and what is stored is rounded once. On one device the same
 * operations give the same bits. Of one thread.
 */
final class CudaOps implements Ops {
    private static final int THREADS = 256;
    private static final int MANY_THREADS = 1024; // of a block that has a long row, or all
    private static final long BLOCKS = 1L << 14; // of kernels that go round, at most
    private static final long PARTS = 512; // of a sum whose bits do not depend on the device
    private static final long SHARED = 40_000; // bytes that any device has for a block

    private final DType type;
    private final String suffix; // of the kernels' names
    private final Device device;
    private final Owners owned;
    private final Stream stream;
    private final PhaseClock clock;
    private final DeviceBuffer workspace;
    private final CudaKernels kernels;
    private final CudaProducts products;

    /**
     * Makes those of bfloat16 or float32.
     *
     * @throws IllegalArgumentException if the type is another, or there is no such device
     * @throws UnsupportedOperationException if there is no CUDA, or this build has no kernels for it
     */
    CudaOps(DType type, Device device) {
        if (type != DType.FLOAT32 && type != DType.BFLOAT16) {
            throw new IllegalArgumentException("type is " + type + "; it must be FLOAT32 or BFLOAT16 on " + device);
        }
        this.type = type;
        this.suffix = type == DType.BFLOAT16 ? "_bf16" : "_f32";
        this.device = device;
        int previous = CurrentDevice.enter(device);
        try (Owners made = new Owners()) {
            this.stream = made.add(Stream.create(device));
            this.clock = new PhaseClock(made.add(new EventMarks(device, stream.handle())));
            this.workspace = made.add(DeviceBuffer.allocate(device, StepMemory.WORKSPACE));
            this.kernels = made.add(new CudaKernels(stream.handle()));
            this.products =
                    made.add(new CudaProducts(type, stream.handle(), workspace.address(), StepMemory.WORKSPACE));
            this.owned = made.keep();
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    @Override
    public DType type() {
        return type;
    }

    @Override
    public PhaseClock clock() {
        return clock;
    }

    @Override
    public long stream() {
        return stream.handle();
    }

    private void launch(String name, long blocks, int threads, long... arguments) {
        launchGrid(name, blocks, 1, threads, 0, arguments);
    }

    private void launchGrid(String name, long blocks, long blocksY, int threads, int shared, long... arguments) {
        if (blocks == 0) {
            return;
        }
        int previous = CurrentDevice.enter(device);
        try {
            kernels.launch(name, blocks, blocksY, threads, shared, arguments);
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    /** Launches a kernel that goes round over {@code count} elements. */
    private void launchRound(String name, long count, long... arguments) {
        launch(name, Math.min(BLOCKS, parts(count, THREADS)), THREADS, arguments);
    }

    private static long parts(long count, long size) {
        return (count + size - 1) / size;
    }

    private static long bits(double value) {
        return Double.doubleToRawLongBits(value);
    }

    @Override
    public void upload(long to, long from, long bytes) {
        upload(to, from, bytes, stream.handle());
        stream.synchronize();
    }

    @Override
    public void download(long to, long from, long bytes) {
        download(to, from, bytes, stream.handle());
        stream.synchronize();
    }

    @Override
    public void upload(long to, long from, long bytes, long otherStream) {
        if (bytes > 0) {
            DeviceBuffer.wrap(device, to, bytes).copyFromHost(from, bytes, otherStream);
        }
    }

    @Override
    public void download(long to, long from, long bytes, long otherStream) {
        if (bytes > 0) {
            DeviceBuffer.wrap(device, from, bytes).copyToHost(to, bytes, otherStream);
        }
    }

    @Override
    public void clear(long at, long bytes) {
        if (bytes > 0) {
            DeviceBuffer.wrap(device, at, bytes).fill(0, stream.handle());
        }
    }

    @Override
    public void initial(InitialValues values, long first, long to, long count) {
        launchRound("initial", count, to, count, values.stream(), first, bits(values.deviation()));
    }

    @Override
    public void round(long from, long to, long count) {
        launchRound("round" + suffix, count, from, to, count);
    }

    @Override
    public void embed(long tokens, long table, long out, long rows, long width) {
        launch("embed" + suffix, rows, THREADS, tokens, table, out, width);
    }

    @Override
    public void embedGrad(long tokens, long order, long starts, long segments, long dout, long dtable, long width) {
        launchGrid(
                "embedGrad" + suffix,
                segments,
                parts(width, THREADS),
                THREADS,
                0,
                tokens,
                order,
                starts,
                dout,
                dtable,
                width);
    }

    @Override
    public void rmsNorm(long x, long weight, long out, long inverse, long rows, long width, double epsilon) {
        launch("rmsNorm" + suffix, rows, THREADS, x, weight, out, inverse, width, bits(epsilon));
    }

    @Override
    public void rmsNormGrad(
            long dout, long x, long weight, long inverse, long plus, long dx, long dweight, long rows, long width) {
        long rowBytes = width * Float.BYTES;
        if (rowBytes > StepMemory.WORKSPACE) {
            throw new IllegalArgumentException(
                    "width is " + width + "; it must be at most " + StepMemory.WORKSPACE / Float.BYTES + " on a GPU");
        }
        long parts = Math.min(Math.min(rows, PARTS), StepMemory.WORKSPACE / rowBytes);
        boolean inShared = rowBytes <= SHARED;
        launchGrid(
                "rmsNormGrad" + suffix,
                parts,
                1,
                THREADS,
                inShared ? (int) rowBytes : 0,
                dout,
                x,
                weight,
                inverse,
                plus,
                dx,
                workspace.address(),
                rows,
                width,
                inShared ? 1 : 0);
        int threads = THREADS / 4; // more blocks, as there are few columns
        launch("addRows", parts == 0 ? 0 : parts(width, threads), threads, workspace.address(), dweight, parts, width);
    }

    @Override
    public void angles(long positions, long table, long rows, long headDim, double base) {
        launchRound("angles", rows * (headDim / 2), positions, table, rows, headDim, bits(base));
    }

    @Override
    public void rope(long qkv, long table, long rows, long heads, long stride, long headDim, boolean back) {
        launch("rope" + suffix, rows, THREADS, qkv, table, heads, stride, headDim, back ? 1 : 0);
    }

    @Override
    public void swiglu(long gateUp, long out, long rows, long width) {
        launch("swiglu" + suffix, rows, THREADS, gateUp, out, width);
    }

    @Override
    public void swigluGrad(long gateUp, long dout, long rows, long width) {
        launch("swigluGrad" + suffix, rows, THREADS, gateUp, dout, width);
    }

    @Override
    public void product(Form form, long m, long n, long k, long a, long b, long plus, long d, boolean wideResult) {
        if (plus == d && !wideResult && type == DType.BFLOAT16) {
            // cuBLASLt adds what it has rounded before, in memory.
            throw new IllegalArgumentException("plus is d; it must be another matrix where d is bfloat16");
        }
        int previous = CurrentDevice.enter(device);
        try {
            products.product(form, m, n, k, a, b, plus, d, wideResult);
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    @Override
    public void crossEntropy(long logits, long labels, long losses, long rows, long vocabulary, double scale) {
        launch("crossEntropy" + suffix, rows, MANY_THREADS, logits, labels, losses, vocabulary, bits(scale));
    }

    @Override
    public void sum(long values, long count, long result) {
        launch("sum", 1, MANY_THREADS, values, count, result);
    }

    @Override
    public void squareSum(long values, long count, long result) {
        launch("squareSum", PARTS, THREADS, values, count, workspace.address());
        sum(workspace.address(), PARTS, result);
    }

    @Override
    public void adamW(
            AdamW settings,
            long update,
            long gradients,
            long master,
            long m,
            long v,
            long weights,
            long count,
            long norm2) {
        launchRound(
                "adamW" + suffix,
                count,
                gradients,
                master,
                m,
                v,
                weights,
                count,
                norm2,
                bits(settings.rate(update)),
                bits(settings.beta1()),
                bits(settings.beta2()),
                bits(settings.epsilon()),
                bits(settings.decay()),
                bits(settings.clip()),
                bits(settings.meanScale(update)),
                bits(settings.squareScale(update)));
    }

    @Override
    public void close() {
        int previous = CurrentDevice.enter(device);
        try {
            owned.close();
        } finally {
            CurrentDevice.leave(previous);
        }
    }
}
