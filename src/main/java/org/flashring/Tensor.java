package org.flashring;

import java.util.Arrays;
import java.util.Comparator;
import org.flashring.device.Memory;
import org.flashring.internal.Checks;

/**
 * A strided view of [batch, length, heads, dim] in borrowed memory. Strides are counted in elements; the last dimension
 * is contiguous. The same four numbers describe BSHD, BHSD, packed and interleaved QKV memory, and with dim 1 the lse.
 */
public final class Tensor {
    private final Memory memory;
    private final DType dtype;
    private final long batch;
    private final long length;
    private final long heads;
    private final long dim;
    private final long strideBatch;
    private final long strideLength;
    private final long strideHead;
    private final long elements;
    private final boolean injective;

    private Tensor(
            Memory memory,
            DType dtype,
            long batch,
            long length,
            long heads,
            long dim,
            long strideBatch,
            long strideLength,
            long strideHead) {
        this.memory = Checks.notNull("memory", memory);
        this.dtype = Checks.notNull("dtype", dtype);
        this.batch = Checks.atLeast("batch", batch, 1);
        this.length = Checks.atLeast("length", length, 0);
        this.heads = Checks.atLeast("heads", heads, 1);
        this.dim = Checks.atLeast("dim", dim, 1);
        this.strideBatch = Checks.atLeast("strideBatch", strideBatch, 0);
        this.strideLength = Checks.atLeast("strideLength", strideLength, 0);
        this.strideHead = Checks.atLeast("strideHead", strideHead, 0);
        this.elements = Checks.product(
                "elements", Checks.product("elements", Checks.product("elements", batch, length), heads), dim);
        long reach = length == 0 ? 0 : reach();
        long bytes = Checks.product("bytes", reach, dtype.bytes());
        if (bytes > memory.bytes()) {
            throw Checks.broken(
                    "memory", memory.bytes() + " bytes", "hold the " + bytes + " bytes that the tensor reaches over");
        }
        Checks.sum("end address", memory.address(), bytes);
        if (memory.address() % dtype.bytes() != 0) {
            throw Checks.broken(
                    "address",
                    "0x" + Long.toHexString(memory.address()),
                    "be a multiple of " + dtype.bytes() + ", the size of " + dtype);
        }
        this.injective = length == 0 || stridesNest();
    }

    /** Returns the number of elements from the first to the last one, gaps included. */
    private long reach() {
        long last = Checks.product("reach", batch - 1, strideBatch);
        last = Checks.sum("reach", last, Checks.product("reach", length - 1, strideLength));
        last = Checks.sum("reach", last, Checks.product("reach", heads - 1, strideHead));
        return Checks.sum("reach", last, dim);
    }

    /**
     * Returns a view with the given strides, in elements.
     *
     * @throws IllegalArgumentException if a size or stride is negative or zero where it may not be, a product
     *     overflows, the address is not aligned to the element size, or the view reaches beyond the memory
     */
    public static Tensor strided(
            Memory memory,
            DType dtype,
            long batch,
            long length,
            long heads,
            long dim,
            long strideBatch,
            long strideLength,
            long strideHead) {
        return new Tensor(memory, dtype, batch, length, heads, dim, strideBatch, strideLength, strideHead);
    }

    /**
     * Returns a view of a framework's array of four dimensions, in the order batch, length, heads, dim whatever their
     * order in memory is: for a [batch, heads, length, dim] array swap the middle two of both. Where the last dimension
     * has one element its stride may be any.
     *
     * @param shape sizes of the four dimensions
     * @param strides their strides in elements, the last one 1
     * @throws IllegalArgumentException as {@link #strided}, or unless there are four of each and the last stride is 1
     */
    public static Tensor of(Memory memory, DType dtype, long[] shape, long[] strides) {
        Checks.equal("shape.length", Checks.notNull("shape", shape).length, 4, "for batch, length, heads and dim");
        Checks.equal("strides.length", Checks.notNull("strides", strides).length, 4, "one for each dimension");
        if (shape[3] > 1) {
            Checks.equal("strides[3]", strides[3], 1, "since the elements of a head lie side by side");
        }
        return strided(memory, dtype, shape[0], shape[1], shape[2], shape[3], strides[0], strides[1], strides[2]);
    }

    /** Returns a dense view of [batch, length, heads, dim]. */
    public static Tensor bshd(Memory memory, DType dtype, long batch, long length, long heads, long dim) {
        long token = Checks.product("strideLength", heads, dim);
        return strided(
                memory, dtype, batch, length, heads, dim, Checks.product("strideBatch", length, token), token, dim);
    }

    /** Returns a view of dense [batch, heads, length, dim] memory. The arguments come in memory order. */
    public static Tensor bhsd(Memory memory, DType dtype, long batch, long heads, long length, long dim) {
        long head = Checks.product("strideHead", length, dim);
        return strided(memory, dtype, batch, length, heads, dim, Checks.product("strideBatch", heads, head), dim, head);
    }

    /** Returns a view of packed [tokens, heads, dim] memory, as batch 1; documents are the mask's business. */
    public static Tensor packed(Memory memory, DType dtype, long tokens, long heads, long dim) {
        return bshd(memory, dtype, 1, tokens, heads, dim);
    }

    /** Returns a view of dense [batch, heads, length] memory, the usual order of the lse: a tensor of dim 1. */
    public static Tensor lse(Memory memory, DType dtype, long batch, long heads, long length) {
        return bhsd(memory, dtype, batch, heads, length, 1);
    }

    /**
     * Returns the three parts of dense [batch, length, heads + 2 · kvHeads, dim] memory: of each token the heads of q,
     * then those of k, then those of v, as one projection for all three writes them. With as many of each that is
     * [batch, length, 3, heads, dim].
     *
     * @throws IllegalArgumentException as {@link #strided}, the memory being that of the whole
     */
    public static Qkv qkv(Memory memory, DType dtype, long batch, long length, long heads, long kvHeads, long dim) {
        Checks.atLeast("heads", heads, 1);
        Checks.atLeast("kvHeads", kvHeads, 1);
        long keysEnd = Checks.sum("heads", heads, kvHeads);
        Tensor whole = bshd(memory, dtype, batch, length, Checks.sum("heads", keysEnd, kvHeads), dim);
        return new Qkv(whole.heads(0, heads, 1), whole.heads(heads, kvHeads, 1), whole.heads(keysEnd, kvHeads, 1));
    }

    /**
     * Returns the three parts of dense [batch, length, heads, 3, dim] memory: of each token and head q, then k, then v.
     *
     * @throws IllegalArgumentException as {@link #strided}, the memory being that of the whole
     */
    public static Qkv qkvPerHead(Memory memory, DType dtype, long batch, long length, long heads, long dim) {
        Checks.atLeast("heads", heads, 1);
        Tensor whole = bshd(memory, dtype, batch, length, Checks.product("heads", heads, 3), dim);
        return new Qkv(whole.heads(0, heads, 3), whole.heads(1, heads, 3), whole.heads(2, heads, 3));
    }

    /** Returns a view of {@code count} heads of this dense tensor, {@code step} apart, from {@code first} on. */
    private Tensor heads(long first, long count, long step) {
        long skipped = length == 0 ? 0 : first * strideHead;
        Memory rest = memory.slice(skipped * dtype.bytes(), (elements - skipped) * dtype.bytes());
        return strided(rest, dtype, batch, length, count, dim, strideBatch, strideLength, step * strideHead);
    }

    /** Returns the memory that the view lies in. */
    public Memory memory() {
        return memory;
    }

    /** Returns the address of element (0, 0, 0, 0). */
    public long address() {
        return memory.address();
    }

    /** Returns the element type. */
    public DType dtype() {
        return dtype;
    }

    /** Returns the batch size. */
    public long batch() {
        return batch;
    }

    /** Returns the number of tokens of each batch row. */
    public long length() {
        return length;
    }

    /** Returns the number of heads. */
    public long heads() {
        return heads;
    }

    /** Returns the size of one head; 1 for an lse. */
    public long dim() {
        return dim;
    }

    /** Returns the distance between batch rows, in elements. */
    public long strideBatch() {
        return strideBatch;
    }

    /** Returns the distance between tokens, in elements. */
    public long strideLength() {
        return strideLength;
    }

    /** Returns the distance between heads, in elements. */
    public long strideHead() {
        return strideHead;
    }

    /** Returns the number of elements. */
    public long elements() {
        return elements;
    }

    /** Returns whether no two indices share an element, by the sufficient rule that strides nest when sorted. */
    public boolean isInjective() {
        return injective;
    }

    /**
     * Returns whether elements of both may lie in the same memory: their extents meet, and one at least has no gaps.
     */
    public boolean overlaps(Tensor other) {
        long reach = length == 0 ? 0 : reach();
        long otherReach = other.length == 0 ? 0 : other.reach();
        return address() < other.address() + otherReach * other.dtype.bytes()
                && other.address() < address() + reach * dtype.bytes()
                && (reach == elements || otherReach == other.elements || address() == other.address());
    }

    private boolean stridesNest() {
        long[][] dimensions = {{strideBatch, batch}, {strideLength, length}, {strideHead, heads}};
        Arrays.sort(dimensions, Comparator.comparingLong(dimension -> dimension[0]));
        long covered = dim;
        for (long[] dimension : dimensions) {
            if (dimension[1] > 1) {
                if (dimension[0] < covered) {
                    return false;
                }
                covered += dimension[0] * (dimension[1] - 1);
            }
        }
        return true;
    }

    @Override
    public String toString() {
        return dtype + " [" + batch + ", " + length + ", " + heads + ", " + dim + "] strides [" + strideBatch + ", "
                + strideLength + ", " + strideHead + ", 1] at 0x" + Long.toHexString(address());
    }
}
