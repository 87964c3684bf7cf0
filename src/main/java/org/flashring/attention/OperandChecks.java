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

    void check(Forward operands) {
        Checks.notNull("operands", operands);
        inputs(operands);
        output("out", operands.out());
        queries("out", operands.out(), plan.shape().valueDim(), plan.shape().dtype(), null);
        apartFromInputs("out", operands.out(), operands);
        if (operands.lse() != null) {
            output("lse", operands.lse());
            queries("lse", operands.lse(), 1, plan.shape().dtype().accumulator(), null);
            apartFromInputs("lse", operands.lse(), operands);
            apart("lse", operands.lse(), "out", operands.out());
        } else if (plan.options().backward()) {
            throw new IllegalArgumentException("lse is null; it must be given unless the plan is forwardOnly");
        }
    }

    /** Sinks, and their gradients, go with a score that has them. */
    private void sinks(String name, Tensor tensor) {
        if (!plan.problem().score().sinks()) {
            throw Checks.broken(name, tensor, "be null, as the plan's score has no sinks");
        }
        DType wide = plan.shape().dtype().accumulator();
        tensor(name, tensor, 1, 1, plan.shape().queryHeads(), 1, wide, null);
        if (tensor.heads() > 1) {
            Checks.equal(name + ".strideHead", tensor.strideHead(), 1, "since sinks lie side by side");
        }
    }

    void check(Backward operands) {
        if (!plan.options().backward()) {
            throw new IllegalStateException("the plan is forwardOnly; backward needs a plan without it");
        }
        Checks.notNull("operands", operands);
        Checks.notNull("operands.of", operands.of());
        AttentionShape shape = plan.shape();
        DType wide = shape.dtype().accumulator();
        inputs(operands.of());
        queries("out", operands.of().out(), shape.valueDim(), shape.dtype(), null);
        queries("lse", operands.of().lse(), 1, wide, null);
        queries("dout", operands.dout(), shape.valueDim(), shape.dtype(), null);
        queries("dq", operands.dq(), shape.headDim(), shape.dtype(), wide);
        keys("dk", operands.dk(), shape.headDim(), shape.dtype(), wide);
        keys("dv", operands.dv(), shape.valueDim(), shape.dtype(), wide);
        gradient("dq", operands.dq(), operands);
        gradient("dk", operands.dk(), operands);
        gradient("dv", operands.dv(), operands);
        apart("dq", operands.dq(), "dk", operands.dk());
        apart("dq", operands.dq(), "dv", operands.dv());
        apart("dk", operands.dk(), "dv", operands.dv());
        if (operands.dsinks() != null) {
            sinks("dsinks", operands.dsinks());
            gradient("dsinks", operands.dsinks(), operands);
            apart("dsinks", operands.dsinks(), "dq", operands.dq());
            apart("dsinks", operands.dsinks(), "dk", operands.dk());
            apart("dsinks", operands.dsinks(), "dv", operands.dv());
        }
    }

    private void inputs(Forward operands) {
        queries("q", operands.q(), plan.shape().headDim(), plan.shape().dtype(), null);
        keys("k", operands.k(), plan.shape().headDim(), plan.shape().dtype(), null);
        keys("v", operands.v(), plan.shape().valueDim(), plan.shape().dtype(), null);
        if (operands.sinks() != null) {
            sinks("sinks", operands.sinks());
        } else if (plan.problem().score().sinks()) {
            throw new IllegalArgumentException("sinks is null; it must be given as the plan's score has sinks");
        }
    }

    private void gradient(String name, Tensor gradient, Backward operands) {
        output(name, gradient);
        apartFromInputs(name, gradient, operands.of());
        apart(name, gradient, "out", operands.of().out());
        apart(name, gradient, "lse", operands.of().lse());
        apart(name, gradient, "dout", operands.dout());
    }

    private static void apartFromInputs(String name, Tensor output, Forward operands) {
        apart(name, output, "q", operands.q());
        apart(name, output, "k", operands.k());
        apart(name, output, "v", operands.v());
        if (operands.sinks() != null) {
            apart(name, output, "sinks", operands.sinks());
        }
    }

    private void queries(String name, Tensor tensor, long dim, DType dtype, DType orElse) {
        long batch = plan.shape().batch();
        tensor(
                name,
                tensor,
                batch,
                plan.queries().localLength(rank),
                plan.shape().queryHeads(),
                dim,
                dtype,
                orElse);
    }

    private void keys(String name, Tensor tensor, long dim, DType dtype, DType orElse) {
        long batch = plan.shape().batch();
        tensor(name, tensor, batch, plan.keys().localLength(rank), plan.shape().kvHeads(), dim, dtype, orElse);
    }

    private void tensor(
            String name, Tensor tensor, long batch, long length, long heads, long dim, DType dtype, DType orElse) {
        Checks.notNull(name, tensor);
        if (tensor.memory().isClosed()) {
            throw Checks.broken(name, "closed", "point to memory");
        }
        if (tensor.elements() > 0 && !tensor.memory().device().equals(device)) {
            throw Checks.broken(
                    name, "on " + tensor.memory().device(), "lie on " + device + ", the communicator's device");
        }
        if (tensor.dtype() != dtype && tensor.dtype() != orElse) {
            throw Checks.broken(
                    name + ".dtype",
                    tensor.dtype(),
                    "be " + dtype + (orElse == null || orElse == dtype ? "" : " or " + orElse));
        }
        if (tensor.batch() != batch || tensor.length() != length || tensor.heads() != heads || tensor.dim() != dim) {
            throw Checks.broken(
                    name + " shape",
                    "[" + tensor.batch() + ", " + tensor.length() + ", " + tensor.heads() + ", " + tensor.dim() + "]",
                    "be [" + batch + ", " + length + ", " + heads + ", " + dim + "] (batch, length on rank " + rank
                            + ", heads, dim)");
        }
    }

    private static void output(String name, Tensor tensor) {
        Checks.notNull(name, tensor);
        if (!tensor.memory().isWritable()) {
            throw Checks.broken(name, "in read-only memory", "be writable");
        }
        if (!tensor.isInjective()) {
            throw Checks.broken(name, tensor, "give every element a place of its own: its strides overlap");
        }
    }

    /**
     * Refuses an output that shares memory with another operand; two tensors that interleave in one block are allowed.
     */
    private static void apart(String name, Tensor output, String otherName, Tensor other) {
        if (output.overlaps(other)) {
            throw Checks.broken(name, output, "not share memory with " + otherName + ", which is " + other);
        }
    }
}
