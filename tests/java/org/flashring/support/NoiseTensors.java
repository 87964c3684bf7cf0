package org.flashring.support;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.bytedeco.javacpp.ShortPointer;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.OwnedMemory;

/**
 * One rank's operands in bfloat16, for timing: on a GPU normally distributed numbers, for the power that random bits
 * take.
 */
public final class NoiseTensors implements AutoCloseable {
    private static final int DRAWN = 1 << 21; // elements, then repeated

    private final Device device;
    private final Random random;
    private final List<OwnedMemory> memory = new ArrayList<>();
    private final Backward operands;

    /** Makes those of {@code tokens} rows of a batch of one. */
    public NoiseTensors(Device device, AttentionShape shape, long tokens, Random random) {
        this.device = device;
        this.random = random;
        long heads = shape.queryHeads();
        Forward forward = new Forward(
                noise(tokens, heads, shape.headDim()),
                noise(tokens, shape.kvHeads(), shape.headDim()),
                noise(tokens, shape.kvHeads(), shape.valueDim()),
                tensor(tokens, heads, shape.valueDim()),
                Tensor.lse(allocate(tokens * heads * Float.BYTES).memory(), DType.FLOAT32, 1, heads, tokens));
        operands = new Backward(
                forward,
                noise(tokens, heads, shape.valueDim()),
                tensor(tokens, heads, shape.headDim()),
                tensor(tokens, shape.kvHeads(), shape.headDim()),
                tensor(tokens, shape.kvHeads(), shape.valueDim()));
    }

    public Forward forward() {
        return operands.of();
    }

    public Backward backward() {
        return operands;
    }

    private OwnedMemory allocate(long bytes) {
        memory.add(OwnedMemory.allocate(device, bytes));
        return memory.get(memory.size() - 1);
    }

    private Tensor tensor(long tokens, long heads, long dim) {
        return Tensor.bshd(allocate(tokens * heads * dim * 2).memory(), DType.BFLOAT16, 1, tokens, heads, dim);
    }

    private Tensor noise(long tokens, long heads, long dim) {
        Tensor tensor = tensor(tokens, heads, dim);
        if (!device.isCuda()) {
            return tensor;
        }
        OwnedMemory all = memory.get(memory.size() - 1);
        try (ShortPointer drawn = new ShortPointer(DRAWN)) {
            for (int i = 0; i < DRAWN; i++) {
                drawn.put(i, (short) (Float.floatToRawIntBits((float) random.nextGaussian()) >>> 16));
            }
            for (long at = 0; at < all.bytes(); at += 2L * DRAWN) {
                long count = Math.min(2L * DRAWN, all.bytes() - at);
                DeviceBuffer.wrap(device, all.address() + at, count).upload(drawn.limit(count / 2));
            }
        }
        return tensor;
    }

    @Override
    public void close() {
        memory.forEach(OwnedMemory::close);
    }
}
