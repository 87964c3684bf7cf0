package org.flashring.nd4j;

import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.attention.AttentionCalls;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.device.Memory;
import org.nd4j.linalg.api.buffer.DataBuffer;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/**
 * A forward pass and what its backward needs: the inputs, the result and one number a row. They are to stay as they
 * are, neither changed in place nor closed nor in a workspace that has been left, until backward has run.
 *
 * <pre>{@code
 * AttentionPass pass = Nd4jAttention.forward(q, k, v, Mask.causal());
 * INDArray dout = gradientOfLoss(pass.out());
 * AttentionGradients gradients = pass.backward(dout);
 * }</pre>
 */
public final class AttentionPass {
    private final Inputs inputs;
    private final AttentionCalls calls; // null where there is nothing to compute
    private final INDArray out;
    private final boolean backward;
    private final DataBuffer lse; // null where there is none: no backward, or no rows

    private AttentionPass(Inputs inputs, AttentionCalls calls, boolean backward, INDArray out, DataBuffer lse) {
        this.inputs = inputs;
        this.calls = calls;
        this.backward = backward;
        this.out = out;
        this.lse = lse;
    }

    /** Runs forward into {@code out}, or into a new array if it is null. */
    static AttentionPass run(Inputs inputs, AttentionCalls calls, INDArray out, boolean backward) {
        long[] shape = inputs.outShape();
        INDArray result = out == null ? rows(inputs.q().dataType(), shape) : out;
        Nd4jTensors.requireShape("out", result, shape);
        DataType wide = inputs.dtype() == DType.FLOAT64 ? DataType.DOUBLE : DataType.FLOAT;
        long numbers = shape[0] * shape[1] * shape[2];
        DataBuffer lse = backward && numbers > 0 ? Nd4j.createBuffer(wide, numbers, false) : null;
        AttentionPass pass = new AttentionPass(inputs, calls, backward, result, lse);
        if (calls != null) {
            calls.forward(pass.operands(), 0);
        }
        return pass;
    }

    /**
     * Returns a new array of this [batch, heads, length, dim] shape, whose memory has the order batch, length, heads.
     * To create it in that order and to permute it takes ND4J several times as long.
     */
    private static INDArray rows(DataType type, long... shape) {
        long token = shape[1] * shape[3];
        long elements = shape[0] * shape[2] * token;
        if (elements == 0) {
            return Nd4j.create(type, shape);
        }
        DataBuffer buffer = Nd4j.createBuffer(type, elements, false);
        return Nd4j.create(buffer, shape, new long[] {shape[2] * token, shape[3], token, 1}, 0, 'c', type);
    }

    private Forward operands() {
        return new Forward(
                Nd4jTensors.bhsd("q", inputs.q()),
                Nd4jTensors.bhsd("k", inputs.k()),
                Nd4jTensors.bhsd("v", inputs.v()),
                Nd4jTensors.bhsd("out", out),
                backward ? lse() : null,
                inputs.sinks() == null ? null : Nd4jTensors.sinks("sinks", inputs.sinks()));
    }

    private Tensor lse() {
        DType wide = inputs.dtype().accumulator();
        Memory memory = lse == null ? Memory.of(0) : Nd4jTensors.memory("lse", lse, wide);
        INDArray q = inputs.q();
        return Tensor.lse(memory, wide, q.size(0), q.size(1), q.size(2));
    }

    /** Returns the result, [batch, queryHeads, queries, valueDim]. */
    public INDArray out() {
        return out;
    }

    /**
     * Returns the gradients for {@code dout}, that of the result, each in memory of the order batch, length, heads:
     * {@code dq.permute(0, 2, 1, 3).reshape(batch, length, heads * dim)} copies nothing. Collective if forward was.
     *
     * @param dout as out, of any strides but for the last dimension, which is contiguous
     * @throws IllegalArgumentException if an array has another shape or type, is closed, or lies in a workspace that
     *     has been left
     * @throws IllegalStateException if forward ran after a plan that is forwardOnly
     */
    public AttentionGradients backward(INDArray dout) {
        AttentionGradients gradients = new AttentionGradients(
                rows(inputs.q().dataType(), inputs.q().shape()),
                rows(inputs.k().dataType(), inputs.k().shape()),
                rows(inputs.v().dataType(), inputs.v().shape()),
                inputs.sinks() == null
                        ? null
                        : Nd4j.createUninitialized(
                                inputs.sinks().dataType(), inputs.sinks().shape()));
        backward(dout, gradients);
        return gradients;
    }

    /**
     * Writes the gradients for {@code dout} into arrays of the caller's, views of larger ones for instance.
     *
     * @param dout as out, of any strides but for the last dimension, which is contiguous
     * @param gradients as q, k, v and sinks, of which no two elements share a place, apart from everything that is read
     * @throws IllegalArgumentException as {@link #backward(INDArray)}; nothing has then been written
     * @throws IllegalStateException if forward ran after a plan that is forwardOnly
     */
    public void backward(INDArray dout, AttentionGradients gradients) {
        if (gradients == null) {
            throw new IllegalArgumentException("gradients is null");
        }
        Nd4jTensors.requireShape("dout", dout, inputs.outShape());
        Nd4jTensors.requireShape("dq", gradients.dq(), inputs.q().shape());
        Nd4jTensors.requireShape("dk", gradients.dk(), inputs.k().shape());
        Nd4jTensors.requireShape("dv", gradients.dv(), inputs.v().shape());
        INDArray dsinks = gradients.dsinks();
        if (dsinks != null) {
            Nd4jTensors.requireShape("dsinks", dsinks, inputs.q().size(1));
        }
        if (calls == null && dsinks != null) {
            dsinks.assign(0);
        }
        if (calls != null) {
            calls.backward(
                    new Backward(
                            operands(),
                            Nd4jTensors.bhsd("dout", dout),
                            Nd4jTensors.bhsd("dq", gradients.dq()),
                            Nd4jTensors.bhsd("dk", gradients.dk()),
                            Nd4jTensors.bhsd("dv", gradients.dv()),
                            dsinks == null ? null : Nd4jTensors.sinks("dsinks", dsinks)),
                    0);
        }
    }
}
