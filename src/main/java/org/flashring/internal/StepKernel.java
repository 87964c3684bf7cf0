package org.flashring.internal;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.util.ArrayList;
import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.Kernel;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Tensor;

/**
 * The native step ({@code flashring_step}) of one rank: shape, mask and positions are written once, operands before each
 * call. For one thread at a time; nothing is allocated after construction.
 */
public final class StepKernel implements AutoCloseable {
    private final Native.Step step = Native.newStep();
    private final Native.PositionList keyPositions = step.keyPositions();
    private final Native.TensorView q = step.q();
    private final Native.TensorView k = step.k();
    private final Native.TensorView v = step.v();
    private final Native.TensorView out = step.out();
    private final Native.TensorView acc = step.acc();
    private final Native.TensorView lse = step.lse();
    private final Native.TensorView dout = step.dout();
    private final Native.TensorView delta = step.delta();
    private final Native.TensorView dq = step.dq();
    private final Native.TensorView dk = step.dk();
    private final Native.TensorView dv = step.dv();
    private final List<LongBuffer> tables = new ArrayList<>(); // what the step points at
    private final long[] keyTables;  // address of each source's position ranges
    private final long[] keyRanges;  // and their number
    private final long[] keyLengths;
    private final long[] bytes = new long[1];

    /** Makes the step of queries at {@code queries} that will meet, one at a time, the keys at {@code keys}. */
    public StepKernel(AttentionShape shape, double softmaxScale, Kernel kernel, Mask mask, Positions queries, List<Positions> keys) {
        step.device(Native.HOST).dtype(shape.dtype().code()).kernel(kernel.code());
        step.batch(shape.batch()).queryHeads(shape.queryHeads()).kvHeads(shape.kvHeads());
        step.headDim(shape.headDim()).valueDim(shape.valueDim()).softmaxScale(softmaxScale);
        step.queryLength(queries.length());
        step.queryPositions().ranges(table(ranges(queries))).count(queries.ranges().size());
        step.mask().left(mask.left()).right(mask.right());
        step.mask().cuSeqlens(table(mask.cuSeqlens())).documents(mask.cuSeqlens() == null ? 0 : mask.documentCount());
        step.mask().prefixLengths(table(mask.prefixLengths()));
        keyTables = new long[keys.size()];
        keyRanges = new long[keys.size()];
        keyLengths = new long[keys.size()];
        for (int i = 0; i < keys.size(); i++) {
            keyTables[i] = table(ranges(keys.get(i)));
            keyRanges[i] = keys.get(i).ranges().size();
            keyLengths[i] = keys.get(i).length();
        }
    }

    private static long[] ranges(Positions positions) {
        long[] flat = new long[3 * positions.ranges().size()];
        int i = 0;
        for (Positions.Range range : positions.ranges()) {
            flat[i++] = range.start();
            flat[i++] = range.length();
            flat[i++] = range.stride();
        }
        return flat;
    }

    private long table(long[] values) {
        if (values == null) {
            return 0;
        }
        LongBuffer table = ByteBuffer.allocateDirect(Math.max(1, values.length) * Long.BYTES).order(ByteOrder.nativeOrder()).asLongBuffer();
        table.put(values).rewind();
        tables.add(table);
        return Native.address(table);
    }

    /** Returns the workspace that the largest of the steps needs in {@code direction}, in bytes. */
    public long workspaceBytes(int direction) {
        long most = 0;
        for (long length : keyLengths) {
            step.keyLength(length);
            Status.check(Native.workspaceBytes(step, direction, bytes));
            most = Math.max(most, bytes[0]);
        }
        return most;
    }

    /** Returns if a kernel serves the steps in {@code direction}; else throws, naming the combination. */
    public void requireSupported(int direction) {
        Status.check(Native.select(step, direction, new int[1]));
    }

    /** Sets the workspace, to be kept until close. */
    public void workspace(long address, long workspaceBytes) {
        step.workspace(address).workspaceBytes(workspaceBytes);
    }

    private void keys(int source, Tensor keys, Tensor values) {
        step.keyLength(keyLengths[source]);
        keyPositions.ranges(keyTables[source]).count(keyRanges[source]);
        Views.set(k, keys);
        Views.set(v, values);
    }

    /**
     * Advances the running (state, lse) by the keys of {@code source}: from the empty state unless {@code resume}, and to
     * {@code result} if {@code finish}. The state may be null when one step does all.
     */
    public void forward(int source, Tensor query, Tensor key, Tensor value, Tensor state, Tensor result, Tensor logSumExp,
            boolean resume, boolean finish) {
        keys(source, key, value);
        Views.set(q, query);
        if (state == null) {
            Views.set(acc, 0, 0, 0, 0);
        } else {
            Views.set(acc, state);
        }
        Views.set(out, result);
        Views.set(lse, logSumExp);
        step.flags((resume ? Native.RESUME : 0) | (finish ? Native.FINISH : 0));
        Status.check(Native.forwardStep(step));
    }

    /** Sets {@code rowSums} to rowsum(result * gradient). */
    public void delta(Tensor result, Tensor gradient, Tensor rowSums) {
        Views.set(out, result);
        Views.set(dout, gradient);
        Views.set(delta, rowSums);
        Status.check(Native.delta(step));
    }

    /** Computes gradients through the keys of {@code source}; overwrites those of q, k and v unless told to add. */
    public void backward(int source, Tensor query, Tensor key, Tensor value, Tensor logSumExp, Tensor gradient, Tensor rowSums,
            Tensor dQuery, Tensor dKey, Tensor dValue, boolean addQuery) {
        keys(source, key, value);
        Views.set(q, query);
        Views.set(lse, logSumExp);
        Views.set(dout, gradient);
        Views.set(delta, rowSums);
        Views.set(dq, dQuery);
        Views.set(dk, dKey);
        Views.set(dv, dValue);
        step.flags(addQuery ? Native.ADD_DQ : 0);
        Status.check(Native.backwardStep(step));
    }

    @Override
    public void close() {
        step.close();
    }
}
