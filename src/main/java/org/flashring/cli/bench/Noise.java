package org.flashring.cli.bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Native;
import org.flashring.kernel.TensorMath;

/** Numbers from N(0, 1) for what is timed, whose power depends on its bits. */
final class Noise {
    private static final int CHUNK = 1 << 16; // elements that one thread draws
    private static final int CHUNKS = 64; // drawn at a time

    private Noise() {}

    /** Fills dense tensors of {@code device}, some chunks at a time, through a staging buffer. */
    static void fill(Device device, TensorMath math, List<Tensor> tensors, long seed) {
        long most = tensors.stream().mapToLong(Tensor::elements).max().orElse(0);
        int chunks = (int) Math.min(CHUNKS, (most + CHUNK - 1) / CHUNK);
        ByteBuffer drawn =
                ByteBuffer.allocateDirect(chunks * CHUNK * Double.BYTES).order(ByteOrder.nativeOrder());
        DoubleBuffer values = drawn.asDoubleBuffer();
        SplittableRandom seeds = new SplittableRandom(seed);
        try (OwnedMemory staging = OwnedMemory.allocate(device, drawn.capacity())) {
            for (Tensor tensor : tensors) {
                for (long start = 0; start < tensor.elements(); start += values.capacity()) {
                    draw(values, chunks, seeds);
                    math.copyBytes(staging.address(), Native.address(drawn), drawn.capacity());
                    math.convert(
                            tensor.address() + start * tensor.dtype().bytes(),
                            tensor.dtype(),
                            staging.address(),
                            DType.FLOAT64,
                            Math.min(values.capacity(), tensor.elements() - start));
                    if (device.isCuda()) {
                        org.flashring.device.Stream.wrap(device, 0).synchronize();
                    }
                }
            }
        }
    }

    private static void draw(DoubleBuffer values, int chunks, SplittableRandom seeds) {
        SplittableRandom[] random = Stream.generate(seeds::split).limit(chunks).toArray(SplittableRandom[]::new);
        IntStream.range(0, chunks).parallel().forEach(chunk -> {
            for (int i = chunk * CHUNK; i < (chunk + 1) * CHUNK; i++) {
                values.put(i, random[chunk].nextGaussian());
            }
        });
    }
}
