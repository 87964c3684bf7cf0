package org.flashring.kernel;

import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.Score;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.internal.Native;
import org.flashring.internal.NativeStructs;
import org.flashring.internal.Status;

/**
 * The native step of new tokens against a cache of keys and values ({@code flashring_step} with rows of their own
 * lengths), and what brings their keys there ({@code flashring_append}). Lengths are addresses of int32 on the device,
 * read when the stream gets there. For one thread at a time; calls allocate nothing.
 */
public final class CacheStep implements AutoCloseable {
    private static final long PLANNED = 64; // an address that is followed by nobody, before there are any

    private final NativeStructs.Step step = Native.newStep();
    private final NativeStructs.Append append = Native.newAppend();
    private final NativeStructs.TensorView q = step.q();
    private final NativeStructs.TensorView k = step.k();
    private final NativeStructs.TensorView v = step.v();
    private final NativeStructs.TensorView out = step.out();
    private final NativeStructs.TensorView acc = step.acc();
    private final NativeStructs.TensorView lse = step.lse();
    private final NativeStructs.TensorView newKeys = append.newKeys();
    private final NativeStructs.TensorView newValues = append.newValues();
    private final NativeStructs.TensorView appendedKeys = append.k();
    private final NativeStructs.TensorView appendedValues = append.v();
    private final HeadNumbers headNumbers;
    private final AttentionShape shape;
    private final long[] bytes = new long[1];

    /**
     * Makes the step against rows of at most {@code capacity} keys on this rank.
     *
     * @param kvDType what the cache holds, as the native interface numbers it; 0 for elements of the shape's type
     * @param batchInvariant whether other rows of the batch change no bit of a row
     * @param pageSize keys of a page; 0 for a cache in one piece
     * @param pages that k and v of each layer have
     * @param window keys that a query sees, its own included; 0 for all before it
     * @param rank whose keys are here
     * @param ranks over which pages are dealt
     */
    public CacheStep(
            AttentionShape shape,
            Score score,
            AttentionOptions options,
            int kvDType,
            boolean batchInvariant,
            long capacity,
            long pageSize,
            long pages,
            long window,
            int rank,
            int ranks) {
        this.shape = shape;
        int device = options.cuda() ? 0 : Native.HOST;
        step.device(device).dtype(shape.dtype().code()).kernel(options.kernel().code());
        step.batch(shape.batch()).queryHeads(shape.queryHeads()).kvHeads(shape.kvHeads());
        step.headDim(shape.headDim()).valueDim(shape.valueDim()).softmaxScale(score.scaleFor(shape));
        step.keyLength(capacity).pageSize(pageSize).pages(pages);
        step.mask().left(window == 0 ? -1 : window - 1).right(0);
        step.shard(rank).shards(ranks);
        step.keyLengths(PLANNED).pageTable(pageSize == 0 ? 0 : PLANNED);
        append.device(device).dtype(shape.dtype().code()).batch(shape.batch()).kvHeads(shape.kvHeads());
        append.headDim(shape.headDim()).valueDim(shape.valueDim());
        append.keyLength(capacity).pageSize(pageSize).pages(pages).shard(rank).shards(ranks);
        step.cacheDType(kvDType).batchInvariant(batchInvariant ? 1 : 0);
        append.cacheDType(kvDType);
        this.headNumbers = new HeadNumbers(step, score, shape.dtype().accumulator());
    }

    /** Returns the workspace that steps of up to {@code queries} tokens a row need, in bytes. */
    public long workspaceBytes(long queries) {
        long most = 0;
        for (long length = 1; length <= queries; length++) { // fewer may go to another kernel, and need more
            step.queryLength(length);
            Status.check(Native.workspaceBytes(step, Native.FORWARD, bytes));
            most = Math.max(most, bytes[0]);
        }
        return most;
    }

    /** Returns if a kernel serves steps of up to {@code queries} tokens a row; else throws, naming the combination. */
    public void requireSupported(long queries) {
        for (long length = 1; length <= queries; length++) {
            step.queryLength(length);
            Status.check(Native.select(step, Native.FORWARD, new int[1]));
        }
    }

    /** Readies the step to run on {@code device}, with workspace and a table of pages there, to be kept until close. */
    public void place(Device device, long workspace, long workspaceBytes, long pageTable, long tableStride) {
        step.device(device.ordinal()).workspace(workspace).workspaceBytes(workspaceBytes);
        step.pageTable(pageTable).pageTableStride(tableStride);
        append.device(device.ordinal()).pageTable(pageTable).pageTableStride(tableStride);
    }

    /** Runs what follows in the order of a CUDA stream; 0 is the default stream, and the only one of the host. */
    public void stream(long stream) {
        step.stream(stream);
        append.stream(stream);
    }

    /** Has what follows work on a layer's keys and values: [rows or pages, keys of each, kvHeads, dim]. */
    public void layer(Tensor keys, Tensor values) {
        Views.set(k, keys);
        Views.set(v, values);
        Views.set(appendedKeys, keys);
        Views.set(appendedValues, values);
    }

    /** As {@link #layer(Tensor, Tensor)}, of a cache of bytes that lies dense at these addresses. */
    public void layer(long keys, long values) {
        dense(keys, k, appendedKeys, shape.headDim());
        dense(values, v, appendedValues, shape.valueDim());
    }

    private void dense(long address, NativeStructs.TensorView read, NativeStructs.TensorView written, long dim) {
        long token = shape.kvHeads() * dim;
        long row = (step.pageSize() == 0 ? step.keyLength() : step.pageSize()) * token;
        Views.set(read, address, row, token, dim);
        Views.set(written, address, row, token, dim);
    }

    /** Has what follows use scales of keys and values, [1, 1, kvHeads, 1] of float32; each null for 1 of each head. */
    public void scales(Tensor ofKeys, Tensor ofValues) {
        long keyScales = ofKeys == null ? 0 : ofKeys.address();
        long valueScales = ofValues == null ? 0 : ofValues.address();
        step.keyScales(keyScales).valueScales(valueScales);
        append.keyScales(keyScales).valueScales(valueScales);
    }

    /**
     * Writes tokens [{@code first}, {@code first + count}) of new keys and values behind those that rows hold.
     *
     * @param lengths keys that each row holds
     * @param counts tokens of each row, at most {@code count}; 0 for {@code count} of each
     * @param after gets the lengths afterwards; 0 for nothing
     */
    public void append(Tensor keys, Tensor values, long first, long count, long lengths, long counts, long after) {
        append.newLength(count).keyLengths(lengths).newLengths(counts).lengthsAfter(after);
        Views.set(newKeys, keys, 0, first, 0);
        Views.set(newValues, values, 0, first, 0);
        Status.check(Native.append(append));
    }

    /**
     * Has the {@link #forward} or {@link #partial} that follows compute tokens [{@code first}, {@code first + count})
     * of the queries, the last ones of their rows.
     *
     * @param lengths keys that each row holds, these tokens' included
     * @param counts tokens of each row, at most {@code count}; 0 for {@code count} of each
     * @param sinks null for none
     */
    public void queries(Tensor queries, long first, long count, long lengths, long counts, Tensor sinks) {
        step.queryLength(count).keyLengths(lengths).queryLengths(counts);
        Views.set(q, queries, 0, first, 0);
        headNumbers.bind(sinks, null, 0);
        headNumbers.from(0);
    }

    /** Computes the outputs from token {@code first} on, and lse; a null one goes to {@code scratch}. */
    public void forward(Tensor outputs, Tensor sums, long first, long scratch) {
        Views.set(out, outputs, 0, first, 0);
        Views.set(acc, 0, 0, 0, 0);
        if (sums == null) {
            dense(lse, scratch, 1);
        } else {
            Views.set(lse, sums, 0, first, 0);
        }
        step.flags(Native.FINISH);
        Status.check(Native.forwardStep(step));
    }

    /** Computes the state over the keys that are here: outputs and lse, dense and of the accumulator type. */
    public void partial(long outputs, long sums) {
        Views.set(out, 0, 0, 0, 0);
        dense(acc, outputs, shape.valueDim());
        dense(lse, sums, 1);
        step.flags(0);
        Status.check(Native.forwardStep(step));
    }

    private void dense(NativeStructs.TensorView view, long address, long dim) {
        long token = shape.queryHeads() * dim;
        Views.set(view, address, step.queryLength() * token, token, dim);
    }

    @Override
    public void close() {
        step.close();
        append.close();
    }
}
