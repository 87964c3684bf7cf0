package org.flashring.comm.transport;

import java.util.Arrays;
import org.flashring.DType;

/**
 * A collective operation on one part of memory for each rank. Kept by the communicator and set anew for each call.
 * Sizes and offsets are in bytes; {@code send} and {@code receive} are the same for allReduce, whose part is all of it.
 */
public final class Collective {
    /** What is done. */
    public enum Kind {
        ALL_GATHER,
        ALL_TO_ALL,
        ALL_REDUCE,
        REDUCE_SCATTER
    }

    /** The type is part of what ranks must agree on. */
    private static final String[] ALL_REDUCE = perType("allReduce");

    private static final String[] REDUCE_SCATTER = perType("reduceScatter");
    private static final String[] REDUCE_SCATTER_PARTS = perType("reduceScatter of parts");

    private final long[] offsets; // of each part; the last is the end
    private Kind kind;
    private String operation;
    private DType dtype;
    private long send;
    private long receive;
    private boolean even;

    /** Makes one for as many ranks, to be set. */
    public Collective(int worldSize) {
        offsets = new long[worldSize + 1];
    }

    private static String[] perType(String operation) {
        return Arrays.stream(DType.values())
                .map(type -> operation + " of " + type)
                .toArray(String[]::new);
    }

    Collective allGather(long from, long bytes, long to) {
        return even(bytes).of(Kind.ALL_GATHER, "allGather", null, from, to);
    }

    Collective allGather(long from, long[] bytes, long to) {
        return uneven(bytes, 1).of(Kind.ALL_GATHER, "allGather of parts", null, from, to);
    }

    /**
     * Sets it to the meeting of ranks that are about to run {@code of}: each tells all others the same number of bytes.
     * Returns this.
     */
    public Collective meeting(String of, long from, long bytes, long to) {
        return even(bytes).of(Kind.ALL_GATHER, of, null, from, to);
    }

    Collective allToAll(long from, long bytes, long to) {
        return even(bytes).of(Kind.ALL_TO_ALL, "allToAll", null, from, to);
    }

    Collective allReduce(long data, long count, DType type) {
        return even(count * type.bytes()).of(Kind.ALL_REDUCE, ALL_REDUCE[type.code()], type, data, data);
    }

    Collective reduceScatter(long from, long count, DType type, long to) {
        return even(count * type.bytes()).of(Kind.REDUCE_SCATTER, REDUCE_SCATTER[type.code()], type, from, to);
    }

    Collective reduceScatter(long from, long[] counts, DType type, long to) {
        return uneven(counts, type.bytes()).of(Kind.REDUCE_SCATTER, REDUCE_SCATTER_PARTS[type.code()], type, from, to);
    }

    private Collective even(long bytes) {
        even = true;
        for (int rank = 0; rank < offsets.length; rank++) {
            offsets[rank] = rank * bytes; // of allReduce those beyond the first may overflow, and mean nothing
        }
        return this;
    }

    private Collective uneven(long[] parts, int element) {
        even = false;
        for (int rank = 0; rank < parts.length; rank++) {
            offsets[rank + 1] = offsets[rank] + parts[rank] * element;
        }
        return this;
    }

    private Collective of(Kind newKind, String newOperation, DType type, long from, long to) {
        kind = newKind;
        operation = newOperation;
        dtype = type;
        send = from;
        receive = to;
        return this;
    }

    /** Returns what is done. */
    public Kind kind() {
        return kind;
    }

    /** Returns the operation's name, type included; ranks that call together give the same. */
    public String operation() {
        return operation;
    }

    /** Returns the type of what is summed; null if nothing is. */
    public DType dtype() {
        return dtype;
    }

    /** Returns where what this rank brings lies. */
    public long send() {
        return send;
    }

    /** Returns where the result goes. */
    public long receive() {
        return receive;
    }

    /** Returns whether all parts have the size of the first by the meaning of the call, not by chance. */
    public boolean even() {
        return even;
    }

    /** Returns the bytes of a rank's part. */
    public long bytes(int rank) {
        return offsets[rank + 1] - offsets[rank];
    }

    /** Returns where a rank's part begins among all parts. */
    public long offset(int rank) {
        return offsets[rank];
    }

    /** Returns the first rank about whose part this call and a peer's differ; -1 if none. */
    public int difference(Collective other) {
        int last = kind == Kind.ALL_REDUCE ? 1 : offsets.length - 1;
        for (int rank = 0; rank < last; rank++) {
            if (bytes(rank) != other.bytes(rank)) {
                return rank;
            }
        }
        return -1;
    }
}
