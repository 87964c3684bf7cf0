package org.flashring.support;

import org.flashring.AttentionOptions;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;

/**
 * A problem run through {@link RingAttention} on threads of this JVM, forward and backward.
 *
 * @param gradients type of dq, dk and dv
 */
public record RingRun(Problem problem, Layout queries, Layout keys, AttentionOptions options, Placement placement, DType gradients) {

    /** Returns the run of self-attention over {@code layout} with default options, dense tensors, and unrounded gradients. */
    public static RingRun of(Problem problem, Layout layout) {
        AttentionOptions options = AttentionOptions.defaults();
        options = Double.isNaN(problem.scale()) ? options : options.withSoftmaxScale(problem.scale());
        return new RingRun(problem, layout, layout, options, Placement.DENSE, problem.shape().dtype().accumulator());
    }

    public RingRun with(AttentionOptions newOptions) {
        return new RingRun(problem, queries, keys, newOptions, placement, gradients);
    }

    public RingRun with(Placement newPlacement) {
        return new RingRun(problem, queries, keys, options, newPlacement, gradients);
    }

    public RingRun with(DType newGradients) {
        return new RingRun(problem, queries, keys, options, placement, newGradients);
    }

    /** Returns the plan. */
    public Plan plan() {
        return Plan.of(problem.shape(), queries, keys, problem.mask().mask(), options);
    }

    /** Returns what all ranks computed together, having checked that they wrote to their outputs alone. */
    public Result run() {
        return run(problem.inputs());
    }

    /** Returns the same for inputs of the caller's choice. */
    public Result run(Problem.Inputs inputs) {
        Plan plan = plan();
        Result result = Result.none(problem);
        LocalGroup.run(plan.worldSize(), communicator -> {
            rank(plan, communicator, inputs, result, 0);
            return null;
        });
        return result;
    }

    /** Runs one rank's part on its communicator's device, in the order of a stream, and puts its outputs into {@code result}. */
    public void rank(Plan plan, Communicator communicator, Problem.Inputs inputs, Result result, long stream) {
        int rank = communicator.rank();
        RankTensors t = new RankTensors(problem.shape(), queries.positions(rank), keys.positions(rank), placement, gradients);
        t.scatter(inputs);
        try (RingAttention ring = new RingAttention(plan, communicator); DeviceCopies on = new DeviceCopies(communicator.device())) {
            ring.forward(on.tensor(t.q), on.tensor(t.k), on.tensor(t.v), on.tensor(t.out), on.tensor(t.lse), stream);
            ring.backward(on.tensor(t.q), on.tensor(t.k), on.tensor(t.v), on.tensor(t.out), on.tensor(t.lse), on.tensor(t.dout),
                    on.tensor(t.dq), on.tensor(t.dk), on.tensor(t.dv), stream);
            communicator.synchronize();
            on.download();
        }
        t.requireFencesWhole();
        t.gather(result);
    }
}
