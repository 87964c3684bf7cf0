package org.flashring.robustness;

import java.util.Locale;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.device.HostBuffer;
import org.flashring.device.Memory;

/** The nine tensors of attention over 2 x 5 tokens in bfloat16, 4 query heads on 2, head dim 8, value dim 6. */
enum Operand {
    Q(DType.BFLOAT16, 4, 8),
    K(DType.BFLOAT16, 2, 8),
    V(DType.BFLOAT16, 2, 6),
    OUT(DType.BFLOAT16, 4, 6),
    LSE(DType.FLOAT32, 4, 1),
    DOUT(DType.BFLOAT16, 4, 6),
    DQ(DType.FLOAT32, 4, 8),
    DK(DType.FLOAT32, 2, 8),
    DV(DType.FLOAT32, 2, 6);

    static final long BATCH = 2;
    static final long LENGTH = 5;

    private final DType dtype;
    private final long heads;
    private final long dim;

    Operand(DType dtype, long heads, long dim) {
        this.dtype = dtype;
        this.heads = heads;
        this.dim = dim;
    }

    /** Returns the name of the argument. */
    String argument() {
        return name().toLowerCase(Locale.ROOT);
    }

    DType dtype() {
        return dtype;
    }

    long bytes() {
        return BATCH * LENGTH * heads * dim * dtype.bytes();
    }

    /** Returns a tensor as it should be, in memory of its own. */
    Tensor good() {
        return in(HostBuffer.allocate(bytes()).memory());
    }

    /** Returns a tensor as it should be in {@code memory}. */
    Tensor in(Memory memory) {
        return Tensor.bshd(memory, dtype, BATCH, LENGTH, heads, dim);
    }

    /** Returns a tensor of another type. */
    Tensor of(DType other) {
        return Tensor.bshd(HostBuffer.allocate(8 * bytes()).memory(), other, BATCH, LENGTH, heads, dim);
    }

    /** Returns a tensor whose shape is off by the given amounts. */
    Tensor off(long batch, long length, long moreHeads, long moreDim) {
        return Tensor.bshd(
                HostBuffer.allocate(8 * bytes()).memory(),
                dtype,
                BATCH + batch,
                LENGTH + length,
                heads + moreHeads,
                dim + moreDim);
    }

    /** Returns a tensor whose tokens share their elements. */
    Tensor folded() {
        return Tensor.strided(
                HostBuffer.allocate(bytes()).memory(), dtype, BATCH, LENGTH, heads, dim, heads * dim, 0, dim);
    }

    /** Returns a tensor whose heads overlap, or its tokens where a head has one element. */
    Tensor crowded() {
        return Tensor.strided(
                HostBuffer.allocate(bytes()).memory(),
                dtype,
                BATCH,
                LENGTH,
                heads,
                dim,
                LENGTH * heads * dim,
                heads * dim - (dim == 1 ? 1 : 0),
                Math.max(1, dim - 1));
    }

    boolean isOutput(boolean backward) {
        return backward ? ordinal() >= DQ.ordinal() : this == OUT || this == LSE;
    }

    boolean isUsed(boolean backward) {
        return backward || ordinal() <= LSE.ordinal();
    }

    /** Calls forward or backward with good tensors but for {@code tensor} in place of {@code bad}. */
    static void call(RingAttention attention, boolean backward, Operand bad, Tensor tensor) {
        Tensor[] t = new Tensor[values().length];
        for (Operand operand : values()) {
            t[operand.ordinal()] = operand == bad ? tensor : operand.good();
        }
        call(attention, backward, t);
    }

    /** Calls forward or backward with the given tensors, in the order of the operands. */
    static void call(RingAttention attention, boolean backward, Tensor... t) {
        if (backward) {
            attention.backward(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8]);
        } else {
            attention.forward(t[0], t[1], t[2], t[3], t[4]);
        }
    }
}
