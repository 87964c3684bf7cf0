package org.flashring.cli.bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.device.Device;
import org.flashring.device.HostBuffer;
import org.flashring.device.Memory;
import org.flashring.kernel.TensorMath;

/** One rank's tensors on the host, dense [batch, local length, heads, dim], its inputs drawn evenly from [-1, 1). */
final class RankOperands implements AutoCloseable {
    private final AttentionShape shape;
    private final long length;
    private final SplittableRandom random;
    private final List<HostBuffer> buffers = new ArrayList<>();
    private final Forward forward;
    private final Backward backward;

    /** Makes those of {@code length} tokens; ranks draw other numbers. */
    RankOperands(AttentionShape shape, long length, int rank) {
        this.shape = shape;
        this.length = length;
        this.random = new SplittableRandom(rank);
        long queryHeads = shape.queryHeads();
        long kvHeads = shape.kvHeads();
        long dim = shape.headDim();
        forward = new Forward(
                drawn(queryHeads),
                drawn(kvHeads),
                drawn(kvHeads),
                tensor(shape.dtype(), queryHeads, dim),
                tensor(shape.dtype().accumulator(), queryHeads, 1));
        backward = new Backward(
                forward,
                drawn(queryHeads),
                tensor(shape.dtype(), queryHeads, dim),
                tensor(shape.dtype(), kvHeads, dim),
                tensor(shape.dtype(), kvHeads, dim));
    }

    Forward forward() {
        return forward;
    }

    Backward backward() {
        return backward;
    }

    private Tensor tensor(DType dtype, long heads, long dim) {
        HostBuffer buffer = HostBuffer.allocate(shape.batch() * length * heads * dim * dtype.bytes());
        buffers.add(buffer);
        return Tensor.bshd(buffer.memory(), dtype, shape.batch(), length, heads, dim);
    }

    private Tensor drawn(long heads) {
        Tensor tensor = tensor(shape.dtype(), heads, shape.headDim());
        int row = Math.toIntExact(heads * shape.headDim()); // drawn once a token, so that little is held as float64
        ByteBuffer values = ByteBuffer.allocateDirect(row * Double.BYTES).order(ByteOrder.nativeOrder());
        long from = Memory.of(values).address();
        try (TensorMath math = new TensorMath(Device.HOST)) {
            for (long token = 0; token < shape.batch() * length; token++) {
                for (int i = 0; i < row; i++) {
                    values.putDouble(i * Double.BYTES, random.nextDouble(-1, 1));
                }
                long to = tensor.address() + token * row * shape.dtype().bytes();
                math.convert(to, shape.dtype(), from, DType.FLOAT64, row);
            }
        }
        return tensor;
    }

    @Override
    public void close() {
        buffers.forEach(HostBuffer::close);
    }
}
