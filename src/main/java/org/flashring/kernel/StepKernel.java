package org.flashring.kernel;

import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Score;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Native;
import org.flashring.internal.NativeStructs;
import org.flashring.internal.Status;

/**
 * The native step ({@code flashring_step}) of one rank: shape, mask and positions are written once, what belongs to the
 * queries once a call, keys before each step. For one thread at a time; nothing is allocated after {@link #place}.
 *
 * <p>Forward: {@link #bindForward}, then for each block {@link #heads}, {@link #meet} and {@link #forward}. Backward:
 * {@link #bindBackward}, {@link #delta}, then for each block heads, meet and {@link #backward}.
 */
public final class StepKernel implements AutoCloseable {
    private final NativeStructs.Step step = Native.newStep();
    private final NativeStructs.MaskView maskView = step.mask();
    private final NativeStructs.PositionList keyPositions = step.keyPositions();
    private final NativeStructs.TensorView k = step.k();
    private final NativeStructs.TensorView v = step.v();
    private final NativeStructs.TensorView dk = step.dk();
    private final NativeStructs.TensorView dv = step.dv();
    private final QueryViews queryViews = new QueryViews(step);
    private final HeadNumbers headNumbers;
    private final AttentionShape shape;
    private final Mask mask;
    private final Positions queries;
    private final List<Positions> keys;
    private final long[] keyTables; // address of each source's position ranges
    private final long[] keyRanges; // how many they are
    private final MaskTables masks;
    private Tensor key; // met last, with its value
    private Tensor value;
    private long keyHead; // where the heads computed begin in those
    private final long[] bytes = new long[1];
    private long heads; // key heads that the step computes
    private OwnedMemory tables; // what the step points at besides tensors

    /** Makes the step of queries at {@code queries} that will meet, one at a time, the keys at {@code keys}. */
    public StepKernel(
            AttentionShape shape,
            Score score,
            AttentionOptions options,
            Mask mask,
            Positions queries,
            List<Positions> keys) {
        this.shape = shape;
        this.mask = mask;
        this.queries = queries;
        this.keys = List.copyOf(keys); // made now, where they are made when looked at
        this.keyTables = new long[keys.size()];
        this.keyRanges = new long[keys.size()];
        this.masks = new MaskTables(mask);
        this.heads = shape.kvHeads();
        step.device(options.cuda() ? 0 : Native.HOST)
                .dtype(shape.dtype().code())
                .kernel(options.kernel().code());
        step.deterministic(options.deterministic() ? 1 : 0);
        step.batch(masks.byRow() ? 1 : shape.batch())
                .queryHeads(shape.queryHeads())
                .kvHeads(shape.kvHeads());
        step.headDim(shape.headDim()).valueDim(shape.valueDim()).softmaxScale(score.scaleFor(shape));
        step.queryLength(queries.length());
        this.headNumbers = new HeadNumbers(step, score, shape.dtype().accumulator());
    }

    /** Readies the step to run on {@code device}: puts mask and positions there, where the tensors will be. */
    public void place(Device device) {
        Tables layout = new Tables();
        SharedLine line = new SharedLine(mask);
        Positions placed = line.queries(queries);
        long queryTable = layout.add(placed.table());
        masks.add(layout);
        headNumbers.add(layout);
        for (int i = 0; i < keys.size(); i++) {
            Positions source = line.keys(keys.get(i));
            keyTables[i] = layout.add(source.table());
            keyRanges[i] = source.ranges().size();
        }
        tables = layout.on(device);
        long base = tables.address();
        step.device(device.ordinal());
        step.queryPositions().ranges(base + queryTable).count(placed.ranges().size());
        masks.move(base);
        masks.set(maskView, 0);
        headNumbers.move(base);
        for (int i = 0; i < keyTables.length; i++) {
            keyTables[i] += base;
        }
    }

    /** Returns the workspace that the largest of the steps needs in {@code direction}, in bytes. */
    public long workspaceBytes(int direction) {
        long most = 0;
        for (Positions source : keys) {
            step.keyLength(source.length());
            Status.check(Native.workspaceBytes(step, direction, bytes));
            most = Math.max(most, bytes[0]);
        }
        return most;
    }

    /**
     * Returns if a kernel serves the steps in {@code direction}, of operands that suit it; else throws, naming the
     * combination.
     */
    public void requireSupported(int direction) {
        for (Positions source : keys) {
            step.keyLength(source.length());
            Status.check(Native.select(step, direction, new int[1]));
        }
    }

    /** Runs what follows in the order of a CUDA stream; 0 is the default stream, and the only one of the host. */
    public void stream(long stream) {
        step.stream(stream);
    }

    /** Sets the workspace, to be kept until close. */
    public void workspace(long address, long workspaceBytes) {
        step.workspace(address).workspaceBytes(workspaceBytes);
    }

    /**
     * Sets what a forward pass reads and writes of the queries, of all heads. The running state, and what rounding took
     * from lse, may be null when one step does all.
     *
     * @param sinks null for none; those of this step's heads begin at {@code firstHead}
     */
    public void bindForward(
            Tensor query, Tensor out, Tensor lse, Tensor state, Tensor lseLow, Tensor sinks, long firstHead) {
        queryViews.bindForward(query, out, lse, state, lseLow);
        headNumbers.bind(sinks, null, firstHead);
        heads(0, shape.kvHeads());
    }

    /** Sets what a backward pass reads and writes of the queries, of all heads. */
    public void bindBackward(Tensor query, Tensor out, Tensor lse, Tensor dout, Tensor delta, Tensor dq) {
        queryViews.bindBackward(query, out, lse, dout, delta, dq);
        headNumbers.bind(null, null, 0);
        heads(0, shape.kvHeads());
    }

    /**
     * Has the steps that follow compute {@code count} key heads from {@code first} on, with the query heads that use
     * them.
     */
    public void heads(long first, long count) {
        long queryHeads = shape.queryHeads() / shape.kvHeads();
        if (count != heads) {
            step.kvHeads(count).queryHeads(count * queryHeads);
            heads = count;
        }
        queryViews.from(first * queryHeads);
        headNumbers.from(first * queryHeads);
    }

    /**
     * Has the step that follows meet the keys of {@code source}: tensors in which the heads computed begin at
     * {@code head}.
     */
    public void meet(int source, Tensor key, Tensor value, long head) {
        step.keyLength(keys.get(source).length());
        keyPositions.ranges(keyTables[source]).count(keyRanges[source]);
        this.key = key;
        this.value = value;
        this.keyHead = head;
        Views.set(k, key, 0, 0, head);
        Views.set(v, value, 0, 0, head);
    }

    /** Has the launch that follows compute its row of the batch; where rows share a mask one launch computes all. */
    private void queriesOf(int launch) {
        if (masks.byRow()) {
            masks.set(maskView, launch);
            queryViews.row(launch);
        }
    }

    private void keysOf(int launch) {
        if (masks.byRow()) {
            Views.set(k, key, launch, 0, keyHead);
            Views.set(v, value, launch, 0, keyHead);
        }
    }

    /**
     * Advances the running state by the keys met: from the empty state unless {@code resume}, and to the output if
     * {@code finish}.
     */
    public void forward(boolean resume, boolean finish) {
        step.flags((resume ? Native.RESUME : 0) | (finish ? Native.FINISH : 0));
        for (int launch = 0; launch < masks.launches(); launch++) {
            queriesOf(launch);
            keysOf(launch);
            Status.check(Native.forwardStep(step));
        }
    }

    /**
     * Sets delta to rowsum(out * dout), and {@code sinkGrads}, unless it is null, to the gradient of {@code sinks}:
     * both of all heads.
     */
    public void delta(Tensor sinks, Tensor sinkGrads) {
        headNumbers.bind(sinks, sinkGrads, 0);
        headNumbers.from(0);
        for (int launch = 0; launch < masks.launches(); launch++) {
            step.flags(launch == 0 ? 0 : Native.ADD_DSINKS);
            queriesOf(launch);
            Status.check(Native.delta(step));
        }
    }

    /**
     * Computes gradients through the keys met: overwrites those of keys and values, and those of queries unless
     * {@code addQuery}.
     */
    public void backward(Tensor dKey, Tensor dValue, boolean addQuery) {
        step.flags(addQuery ? Native.ADD_DQ : 0);
        for (int launch = 0; launch < masks.launches(); launch++) {
            queriesOf(launch);
            keysOf(launch);
            Views.set(dk, dKey, launch, 0, 0);
            Views.set(dv, dValue, launch, 0, 0);
            Status.check(Native.backwardStep(step));
        }
    }

    @Override
    public void close() {
        if (tables != null) {
            tables.close();
        }
        step.close();
    }
}
