package org.flashring.attention;

import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.plan.Plan;

/** The one check of the tensors that callers hand in; allocates nothing unless it fails. */
final class OperandChecks {
    private final Plan plan;
    private final int rank;
    private final Device device;

    OperandChecks(Plan plan, int rank, Device device) {
        this.plan = plan;
        this.rank = rank;
        this.device = device;
    }

    void checkForward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse) {
        checkInputs(q, k, v);
        output("out", out);
        output("lse", lse);
        queries("out", out, plan.shape().valueDim(), plan.shape().dtype(), null);
        queries("lse", lse, 1, plan.shape().dtype().accumulator(), null);
        apart("out", out, "q", q);
        apart("out", out, "k", k);
        apart("out", out, "v", v);
        apart("lse", lse, "q", q);
        apart("lse", lse, "k", k);
        apart("lse", lse, "v", v);
        apart("lse", lse, "out", out);
    }

    void checkBackward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor dout, Tensor dq, Tensor dk, Tensor dv) {
        if (!plan.options().backward()) {
            throw new IllegalStateException("the plan is forwardOnly; backward needs a plan without it");
        }
        AttentionShape shape = plan.shape();
        DType wide = shape.dtype().accumulator();
        checkInputs(q, k, v);
        queries("out", out, shape.valueDim(), shape.dtype(), null);
        queries("lse", lse, 1, wide, null);
        queries("dout", dout, shape.valueDim(), shape.dtype(), null);
        queries("dq", dq, shape.headDim(), shape.dtype(), wide);
        keys("dk", dk, shape.headDim(), shape.dtype(), wide);
        keys("dv", dv, shape.valueDim(), shape.dtype(), wide);
        gradient("dq", dq, q, k, v, out, lse, dout);
        gradient("dk", dk, q, k, v, out, lse, dout);
        gradient("dv", dv, q, k, v, out, lse, dout);
        apart("dq", dq, "dk", dk);
        apart("dq", dq, "dv", dv);
        apart("dk", dk, "dv", dv);
    }

    private void checkInputs(Tensor q, Tensor k, Tensor v) {
        queries("q", q, plan.shape().headDim(), plan.shape().dtype(), null);
        keys("k", k, plan.shape().headDim(), plan.shape().dtype(), null);
        keys("v", v, plan.shape().valueDim(), plan.shape().dtype(), null);
    }

    private void gradient(String name, Tensor gradient, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor dout) {
        output(name, gradient);
        apart(name, gradient, "q", q);
        apart(name, gradient, "k", k);
        apart(name, gradient, "v", v);
        apart(name, gradient, "out", out);
        apart(name, gradient, "lse", lse);
        apart(name, gradient, "dout", dout);
    }

    private void queries(String name, Tensor tensor, long dim, DType dtype, DType orElse) {
        tensor(name, tensor, plan.queries().localLength(rank), plan.shape().queryHeads(), dim, dtype, orElse);
    }

    private void keys(String name, Tensor tensor, long dim, DType dtype, DType orElse) {
        tensor(name, tensor, plan.keys().localLength(rank), plan.shape().kvHeads(), dim, dtype, orElse);
    }

    private void tensor(String name, Tensor tensor, long length, long heads, long dim, DType dtype, DType orElse) {
        Checks.notNull(name, tensor);
        if (tensor.memory().isClosed()) {
            throw Checks.broken(name, "closed", "point to memory");
        }
        if (tensor.elements() > 0 && !tensor.memory().device().equals(device)) {
            throw Checks.broken(name, "on " + tensor.memory().device(), "lie on " + device + ", the communicator's device");
        }
        if (tensor.dtype() != dtype && tensor.dtype() != orElse) {
            throw Checks.broken(name + ".dtype", tensor.dtype(), "be " + dtype + (orElse == null || orElse == dtype ? "" : " or " + orElse));
        }
        if (tensor.batch() != plan.shape().batch() || tensor.length() != length || tensor.heads() != heads || tensor.dim() != dim) {
            throw Checks.broken(name + " shape", "[" + tensor.batch() + ", " + tensor.length() + ", " + tensor.heads() + ", " + tensor.dim() + "]",
                    "be [" + plan.shape().batch() + ", " + length + ", " + heads + ", " + dim + "] (batch, length on rank " + rank + ", heads, dim)");
        }
    }

    private static void output(String name, Tensor tensor) {
        Checks.notNull(name, tensor);
        if (!tensor.memory().isWritable()) {
            throw Checks.broken(name, "in a read-only buffer", "be writable");
        }
        if (!tensor.isInjective()) {
            throw Checks.broken(name, tensor, "give every element a place of its own: its strides overlap");
        }
    }

    /** Refuses an output that shares memory with another operand; two tensors that interleave in one block are allowed. */
    private static void apart(String name, Tensor output, String otherName, Tensor other) {
        if (output.overlaps(other)) {
            throw Checks.broken(name, output, "not share memory with " + otherName + ", which is " + other);
        }
    }
}
