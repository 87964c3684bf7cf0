package org.flashring.cli.bench;

import static org.bytedeco.pytorch.global.torch.empty_like;

import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.HostBuffer;
import org.flashring.device.Memory;
import org.flashring.plan.Plan;

/** This library, on the memory of PyTorch's tensors. */
final class FlashRingContender implements Contender, AutoCloseable {
    private final BenchCase bench;
    private final FlashAttention attention;
    private final org.bytedeco.pytorch.Tensor output;
    private final List<org.bytedeco.pytorch.Tensor> gradients;
    private final HostBuffer lseMemory;
    private final Tensor q;
    private final Tensor k;
    private final Tensor v;
    private final Tensor dout;
    private final Tensor out;
    private final Tensor lse;
    private final Tensor dq;
    private final Tensor dk;
    private final Tensor dv;

    FlashRingContender(BenchCase bench, Inputs inputs) {
        this.bench = bench;
        AttentionShape shape = bench.shape();
        DType wide = shape.dtype().accumulator();
        this.attention = new FlashAttention(
                Plan.of(shape, Layout.contiguous(bench.length(), 1), bench.mask(), AttentionOptions.defaults()));
        this.output = empty_like(inputs.dout());
        this.gradients = List.of(empty_like(inputs.q()), empty_like(inputs.k()), empty_like(inputs.v()));
        this.lseMemory = HostBuffer.allocate(shape.batch() * shape.queryHeads() * bench.length() * wide.bytes());
        this.q = view(inputs.q(), shape.queryHeads());
        this.k = view(inputs.k(), shape.kvHeads());
        this.v = view(inputs.v(), shape.kvHeads());
        this.dout = view(inputs.dout(), shape.queryHeads());
        this.out = view(output, shape.queryHeads());
        this.lse = Tensor.lse(lseMemory.memory(), wide, shape.batch(), shape.queryHeads(), bench.length());
        this.dq = view(gradients.get(0), shape.queryHeads());
        this.dk = view(gradients.get(1), shape.kvHeads());
        this.dv = view(gradients.get(2), shape.kvHeads());
    }

    private Tensor view(org.bytedeco.pytorch.Tensor tensor, long heads) {
        AttentionShape shape = bench.shape();
        return Tensor.bhsd(
                Memory.of(tensor.data_ptr()), shape.dtype(), shape.batch(), heads, bench.length(), shape.headDim());
    }

    @Override
    public void forward() {
        attention.forward(q, k, v, out, lse);
    }

    @Override
    public void prepareBackward() {
        forward();
    }

    @Override
    public void backward() {
        attention.backward(q, k, v, out, lse, dout, dq, dk, dv);
    }

    @Override
    public org.bytedeco.pytorch.Tensor output() {
        return output;
    }

    @Override
    public List<org.bytedeco.pytorch.Tensor> gradients() {
        return gradients;
    }

    @Override
    public void close() {
        attention.close();
        lseMemory.close();
    }
}
