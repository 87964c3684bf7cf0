package org.flashring.cli.bench;

import java.util.ArrayList;
import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.kernel.TensorMath;

/** What attention of some tokens reads and writes, dense [batch, length, heads, dim] in memory of its own. */
final class Operands implements AutoCloseable {
    final Tensor q;
    final Tensor k;
    final Tensor v;
    final Tensor dout;
    final Tensor out;
    final Tensor lse;
    final Tensor dq;
    final Tensor dk;
    final Tensor dv;
    private final Device device;
    private final AttentionShape shape;
    private final long length;
    private final List<OwnedMemory> buffers = new ArrayList<>();

    Operands(Device device, AttentionShape shape, long length) {
        this.device = device;
        this.shape = shape;
        this.length = length;
        try {
            q = tensor(shape.dtype(), shape.queryHeads(), shape.headDim());
            k = tensor(shape.dtype(), shape.kvHeads(), shape.headDim());
            v = tensor(shape.dtype(), shape.kvHeads(), shape.valueDim());
            dout = tensor(shape.dtype(), shape.queryHeads(), shape.valueDim());
            out = tensor(shape.dtype(), shape.queryHeads(), shape.valueDim());
            OwnedMemory ofLse = allocate(shape.dtype().accumulator(), shape.queryHeads());
            lse = Tensor.lse(ofLse.memory(), shape.dtype().accumulator(), shape.batch(), shape.queryHeads(), length);
            dq = tensor(shape.dtype(), shape.queryHeads(), shape.headDim());
            dk = tensor(shape.dtype(), shape.kvHeads(), shape.headDim());
            dv = tensor(shape.dtype(), shape.kvHeads(), shape.valueDim());
        } catch (RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    private Tensor tensor(DType dtype, long heads, long dim) {
        return Tensor.bshd(allocate(dtype, heads * dim).memory(), dtype, shape.batch(), length, heads, dim);
    }

    private OwnedMemory allocate(DType dtype, long elements) {
        buffers.add(OwnedMemory.allocate(device, shape.batch() * length * elements * dtype.bytes()));
        return buffers.get(buffers.size() - 1);
    }

    /** Draws the inputs from N(0, 1). */
    Operands draw(TensorMath math, long seed) {
        Noise.fill(device, math, List.of(q, k, v, dout), seed);
        return this;
    }

    Forward forward() {
        return new Forward(q, k, v, out, lse);
    }

    Backward backward() {
        return new Backward(forward(), dout, dq, dk, dv);
    }

    @Override
    public void close() {
        buffers.forEach(OwnedMemory::close);
    }
}
