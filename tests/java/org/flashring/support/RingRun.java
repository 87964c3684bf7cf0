package org.flashring.support;

import org.flashring.AttentionOptions;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Score;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;

/**
 * A problem run through {@link ShardedAttention} on threads of this JVM, forward and backward.
 *
 * @param strategy how keys come to queries
 * @param gradients type of dq, dk and dv
 */
public record RingRun(
        Problem problem,
        Layout queries,
        Layout keys,
        Strategy strategy,
        AttentionOptions options,
        Placement placement,
        DType gradients) {

    /**
     * Returns the run of self-attention over {@code layout} with default options, dense tensors, and unrounded
     * gradients.
     */
    public static RingRun of(Problem problem, Layout layout) {
        return new RingRun(
                problem,
                layout,
                layout,
                new Ring(),
                AttentionOptions.defaults(),
                Placement.DENSE,
                problem.shape().dtype().accumulator());
    }

    public RingRun with(Strategy newStrategy) {
        return new RingRun(problem, queries, keys, newStrategy, options, placement, gradients);
    }

    public RingRun with(AttentionOptions newOptions) {
        return new RingRun(problem, queries, keys, strategy, newOptions, placement, gradients);
    }

    public RingRun with(Placement newPlacement) {
        return new RingRun(problem, queries, keys, strategy, options, newPlacement, gradients);
    }

    public RingRun with(DType newGradients) {
        return new RingRun(problem, queries, keys, strategy, options, placement, newGradients);
    }

    /** Returns the plan. */
    public Plan plan() {
        Score score = Double.isNaN(problem.scale()) ? Score.standard() : Score.scaledBy(problem.scale());
        return Plan.of(
                new org.flashring.plan.Problem(
                        problem.shape(), queries, keys, problem.mask().mask(), score),
                strategy,
                options);
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

    /**
     * Runs one rank's part on its communicator's device, in the order of a stream, and puts its outputs into
     * {@code result}.
     */
    public void rank(Plan plan, Communicator communicator, Problem.Inputs inputs, Result result, long stream) {
        int rank = communicator.rank();
        RankTensors t =
                new RankTensors(problem.shape(), queries.positions(rank), keys.positions(rank), placement, gradients);
        t.scatter(inputs);
        try (ShardedAttention attention = new ShardedAttention(plan, communicator);
                DeviceCopies on = new DeviceCopies(communicator.device())) {
            Forward operands =
                    new Forward(on.tensor(t.q), on.tensor(t.k), on.tensor(t.v), on.tensor(t.out), on.tensor(t.lse));
            attention.forward(operands, stream);
            attention.backward(
                    new Backward(operands, on.tensor(t.dout), on.tensor(t.dq), on.tensor(t.dk), on.tensor(t.dv)),
                    stream);
            communicator.synchronize();
            on.download();
        }
        t.requireFencesWhole();
        t.gather(result);
    }
}
