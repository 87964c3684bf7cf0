package org.flashring.support;

import java.util.BitSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Positions;

/** The nine tensors of one rank: inputs scattered from the whole, outputs NaN until written, fences round them all. */
public final class RankTensors {
    public final TestTensor q;
    public final TestTensor k;
    public final TestTensor v;
    public final TestTensor out;
    public final TestTensor lse;
    public final TestTensor dout;
    public final TestTensor dq;
    public final TestTensor dk;
    public final TestTensor dv;
    private final Positions queries;
    private final Positions keys;

    /**
     * Makes them for the given local positions.
     *
     * @param gradients type of dq, dk and dv
     */
    public RankTensors(AttentionShape shape, Positions queries, Positions keys, Placement placement, DType gradients) {
        this.queries = queries;
        this.keys = keys;
        DType wide = shape.dtype().accumulator();
        if (placement == Placement.INTERLEAVED) {
            if (!queries.equals(keys)) {
                throw new IllegalArgumentException("q, k and v interleave only where their positions agree");
            }
            TestTensor[] qkv = interleaved(shape, queries.length(), shape.dtype());
            TestTensor[] grads = interleaved(shape, queries.length(), gradients);
            q = qkv[0];
            k = qkv[1];
            v = qkv[2];
            dq = grads[0];
            dk = grads[1];
            dv = grads[2];
        } else {
            q = make(placement, shape.dtype(), shape.batch(), queries.length(), shape.queryHeads(), shape.headDim());
            k = make(placement, shape.dtype(), shape.batch(), keys.length(), shape.kvHeads(), shape.headDim());
            v = make(placement, shape.dtype(), shape.batch(), keys.length(), shape.kvHeads(), shape.valueDim());
            dq = make(placement, gradients, shape.batch(), queries.length(), shape.queryHeads(), shape.headDim());
            dk = make(placement, gradients, shape.batch(), keys.length(), shape.kvHeads(), shape.headDim());
            dv = make(placement, gradients, shape.batch(), keys.length(), shape.kvHeads(), shape.valueDim());
        }
        out = make(placement, shape.dtype(), shape.batch(), queries.length(), shape.queryHeads(), shape.valueDim());
        dout = make(placement, shape.dtype(), shape.batch(), queries.length(), shape.queryHeads(), shape.valueDim());
        lse = make(placement, wide, shape.batch(), queries.length(), shape.queryHeads(), 1);
    }

    private static TestTensor make(Placement placement, DType dtype, long batch, long length, long heads, long dim) {
        return switch (placement) {
            case DENSE, INTERLEAVED -> TestTensor.dense(dtype, batch, length, heads, dim);
            case HEADS_FIRST -> TestTensor.headsFirst(dtype, batch, length, heads, dim);
            case PADDED -> TestTensor.padded(dtype, batch, length, heads, dim, 3);
        };
    }

    private static TestTensor[] interleaved(AttentionShape shape, long length, DType dtype) {
        long queryWidth = shape.queryHeads() * shape.headDim();
        long keyWidth = shape.kvHeads() * shape.headDim();
        long token = queryWidth + keyWidth + shape.kvHeads() * shape.valueDim();
        FencedBuffer buffer = new FencedBuffer(dtype, shape.batch() * length * token);
        return new TestTensor[] {
            new TestTensor(
                    buffer,
                    0,
                    shape.batch(),
                    length,
                    shape.queryHeads(),
                    shape.headDim(),
                    length * token,
                    token,
                    shape.headDim()),
            new TestTensor(
                    buffer,
                    queryWidth,
                    shape.batch(),
                    length,
                    shape.kvHeads(),
                    shape.headDim(),
                    length * token,
                    token,
                    shape.headDim()),
            new TestTensor(
                    buffer,
                    queryWidth + keyWidth,
                    shape.batch(),
                    length,
                    shape.kvHeads(),
                    shape.valueDim(),
                    length * token,
                    token,
                    shape.valueDim()),
        };
    }

    /** Takes this rank's share of the inputs, and remembers all memory for {@link #requireFencesWhole}. */
    public void scatter(Problem.Inputs inputs) {
        q.scatter(inputs.q(), queries);
        k.scatter(inputs.k(), keys);
        v.scatter(inputs.v(), keys);
        dout.scatter(inputs.dout(), queries);
        for (TestTensor tensor : List.of(q, k, v, out, lse, dout, dq, dk, dv)) {
            tensor.buffer().freeze();
        }
    }

    /** Puts this rank's outputs into their places of the whole. */
    public void gather(Result result) {
        out.gather(result.out(), queries);
        lse.gather(result.lse(), queries);
        dq.gather(result.dq(), queries);
        dk.gather(result.dk(), keys);
        dv.gather(result.dv(), keys);
    }

    /** Throws if anything but the elements of the outputs was written: inputs, gaps between elements, fences. */
    public void requireFencesWhole() {
        Map<FencedBuffer, BitSet> writable = new IdentityHashMap<>();
        for (TestTensor output : List.of(out, lse, dq, dk, dv)) {
            output.mark(writable.computeIfAbsent(output.buffer(), buffer -> new BitSet()));
        }
        Map<String, TestTensor> all =
                Map.of("q", q, "k", k, "v", v, "out", out, "lse", lse, "dout", dout, "dq", dq, "dk", dk, "dv", dv);
        all.forEach((name, tensor) -> tensor.buffer()
                .requireUntouched("memory of " + name, writable.getOrDefault(tensor.buffer(), new BitSet())));
    }
}
