package org.flashring.robustness;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import org.bytedeco.javacpp.LongPointer;
import org.flashring.device.HostBuffer;
import org.flashring.internal.Native;
import org.flashring.internal.NativeStructs.Step;
import org.flashring.internal.NativeStructs.TensorView;

/**
 * A {@code flashring_step} that every entry point accepts, to be damaged: 2 x 5 tokens of float32 in two documents, 4
 * query heads on 2, head dim 8, value dim 6. Each tensor lies in more memory than it needs, so that small changes stay
 * inside.
 */
final class RawStep implements AutoCloseable {
    static final long BATCH = 2;
    static final long LENGTH = 5;
    static final long QUERY_HEADS = 4;
    static final long KV_HEADS = 2;
    static final long HEAD_DIM = 8;
    static final long VALUE_DIM = 6;
    /** Entries of every table that may be used, those beyond the given ones zero; as many again follow. */
    static final int TABLE = 64;

    private static final int FLOAT32 = 1;
    private static final long ROOM = 1 << 18;

    private final List<Runnable> closers = new ArrayList<>();
    private final Step step = own(Native.newStep(), Step::close);
    private final long[] addresses = new long[11];
    private final long ranges = table(0, 3, 1, 3, 2, 1);
    private final long cuSeqlens = table(0, 2, 5);
    private final long prefixLengths = table(1, 0);
    private final long workspace = memory();

    RawStep() {
        for (int i = 0; i < addresses.length; i++) {
            addresses[i] = memory();
        }
        reset();
    }

    private <T> T own(T resource, Consumer<T> close) {
        closers.add(() -> close.accept(resource));
        return resource;
    }

    private long memory() {
        return own(HostBuffer.allocate(ROOM), HostBuffer::close).address();
    }

    private long table(long... values) {
        LongPointer table = own(new LongPointer(2 * TABLE), LongPointer::close);
        for (int i = 0; i < 2 * TABLE; i++) {
            table.put(i, i < values.length ? values[i] : 0);
        }
        return table.address();
    }

    /** Returns the step as it should be. */
    Step reset() {
        step.size(step.sizeof())
                .device(Native.HOST)
                .dtype(FLOAT32)
                .kernel(0)
                .flags(Native.FINISH)
                .deterministic(0);
        step.batch(BATCH)
                .queryLength(LENGTH)
                .keyLength(LENGTH)
                .queryHeads(QUERY_HEADS)
                .kvHeads(KV_HEADS);
        step.headDim(HEAD_DIM).valueDim(VALUE_DIM).softmaxScale(0.5);
        step.queryPositions().ranges(ranges).count(2);
        step.keyPositions().ranges(ranges).count(2);
        step.mask().left(-1).right(0).cuSeqlens(cuSeqlens).documents(2).prefixLengths(prefixLengths);
        step.workspace(workspace).workspaceBytes(ROOM).stream(0);
        TensorView[] tensors = tensors();
        long[] heads = {
            QUERY_HEADS,
            KV_HEADS,
            KV_HEADS,
            QUERY_HEADS,
            QUERY_HEADS,
            QUERY_HEADS,
            QUERY_HEADS,
            QUERY_HEADS,
            QUERY_HEADS,
            KV_HEADS,
            KV_HEADS
        };
        long[] dims = {
            HEAD_DIM, HEAD_DIM, VALUE_DIM, VALUE_DIM, VALUE_DIM, 1, VALUE_DIM, 1, HEAD_DIM, HEAD_DIM, VALUE_DIM
        };
        for (int i = 0; i < tensors.length; i++) {
            long token = heads[i] * dims[i];
            tensors[i]
                    .data(addresses[i])
                    .strideBatch(LENGTH * token)
                    .strideSeq(token)
                    .strideHead(dims[i]);
        }
        return step;
    }

    Step step() {
        return step;
    }

    /** Returns q, k, v, out, acc, lse, dout, delta, dq, dk and dv. */
    TensorView[] tensors() {
        return new TensorView[] {
            step.q(),
            step.k(),
            step.v(),
            step.out(),
            step.acc(),
            step.lse(),
            step.dout(),
            step.delta(),
            step.dq(),
            step.dk(),
            step.dv()
        };
    }

    @Override
    public void close() {
        closers.forEach(Runnable::run);
    }
}
