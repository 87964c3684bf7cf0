package org.flashring.kernel;

import org.flashring.AttentionShape;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.internal.Native;
import org.flashring.internal.NativeStructs;
import org.flashring.internal.Status;

/**
 * States over disjoint keys become outputs and lse: {@code flashring_merge}, its struct made once. A state is outputs
 * [batch, tokens, heads, dim], then lse [batch, tokens, heads], dense and of the accumulator type. For one thread at a
 * time.
 */
public final class StateMerge implements AutoCloseable {
    private final NativeStructs.Merge args = Native.newMerge();
    private final NativeStructs.TensorView acc = args.acc();
    private final NativeStructs.TensorView stateLse = args.stateLse();
    private final NativeStructs.TensorView out = args.out();
    private final NativeStructs.TensorView lse = args.lse();
    private final AttentionShape shape;

    /** Merges {@code states} states of a shape, on {@code device}. */
    public StateMerge(AttentionShape shape, int states, Device device) {
        this.shape = shape;
        args.device(device.ordinal()).dtype(shape.dtype().code()).states(states);
        args.batch(shape.batch()).heads(shape.queryHeads()).dim(shape.valueDim());
    }

    /** Runs what follows in the order of a CUDA stream; 0 is the default stream, and the only one of the host. */
    public void stream(long stream) {
        args.stream(stream);
    }

    /** Returns the bytes between the outputs of a state and its lse. */
    public long outputBytes(long tokens) {
        return shape.batch() * tokens * shape.queryHeads() * shape.valueDim() * accumulatorBytes();
    }

    /** Returns the bytes of a state. */
    public long stateBytes(long tokens) {
        return outputBytes(tokens) / shape.valueDim() * (shape.valueDim() + 1);
    }

    private int accumulatorBytes() {
        return shape.dtype().accumulator().bytes();
    }

    /**
     * Sets tokens [{@code first}, {@code first + tokens}) of outputs and of sums, unless they are null, to what the
     * states that lie one behind the other at {@code from} come to, in their order.
     */
    public void run(long from, long tokens, Tensor outputs, Tensor sums, long first) {
        long heads = shape.queryHeads();
        args.length(tokens).stateStride(stateBytes(tokens) / accumulatorBytes());
        Views.set(acc, from, tokens * heads * shape.valueDim(), heads * shape.valueDim(), shape.valueDim());
        Views.set(stateLse, from + outputBytes(tokens), tokens * heads, heads, 1);
        Views.set(out, outputs, 0, first, 0);
        if (sums == null) {
            Views.set(lse, 0, 0, 0, 0);
        } else {
            Views.set(lse, sums, 0, first, 0);
        }
        Status.check(Native.merge(args));
    }

    @Override
    public void close() {
        args.close();
    }
}
