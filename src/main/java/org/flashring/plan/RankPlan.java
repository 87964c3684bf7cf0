package org.flashring.plan;

import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.Positions;
import org.flashring.internal.Checks;
import org.flashring.plan.HeadExchange.Leg;
import org.flashring.plan.Schedule.Block;
import org.flashring.plan.Schedule.Step;

/**
 * What one rank of a plan meets, computes and sends, step by step. Whoever asks for much of it keeps one of these, a
 * thread each.
 */
public final class RankPlan {
    private static final Step NONE = new Step(null, null, false, null);

    private final Plan plan;
    private final int rank;
    private final Schedule schedule;
    private int knownStep; // of forward, the one that was looked at last
    private Step known;
    private int knownSource = -1; // the one whose pairs were counted last
    private long knownPairs;

    RankPlan(Plan plan, int rank) {
        this.plan = plan;
        this.rank = rank;
        this.schedule = plan.schedule(rank);
    }

    /** Returns the number of {@code own} steps of the schedule and of those that exchange heads. */
    private int count(List<Step> own) {
        return own.size() + 2 * ends();
    }

    /** Returns the number of steps before a schedule's own, and behind them: those that exchange heads. */
    private int ends() {
        return schedule.heads() == null ? 0 : 1;
    }

    /** Returns the number of steps of a forward pass, exchanges of heads included; all ranks have as many. */
    public int steps() {
        return count(schedule.forward());
    }

    /** Returns the number of steps of a backward pass, exchanges of heads included; all ranks have as many. */
    public int backwardSteps() {
        return count(schedule.backward());
    }

    /** Returns the rank whose keys are met in {@code step}; -1 where they are no rank's or several ranks'. */
    public int source(int step) {
        return Plan.sourceOf(schedule, forward(step).block());
    }

    /** Returns whether {@code step} computes: the mask leaves something, or it has to be computed all the same. */
    public boolean computes(int step) {
        return forward(step).computes();
    }

    /** Returns the last step that computes. */
    public int lastComputed() {
        int step = steps() - 1;
        while (!computes(step)) {
            step--;
        }
        return step;
    }

    /** Returns a step of forward; schedules make one whenever it is looked at. */
    private Step forward(int step) {
        if (known == null || step != knownStep) {
            known = step(schedule.forward(), step);
            knownStep = step;
        }
        return known;
    }

    /** Returns a step of the schedule; an exchange of heads has nothing in it. */
    private Step step(List<Step> of, int step) {
        Checks.between("step", step, 0, count(of) - 1L);
        int number = step - ends();
        return number < 0 || number == of.size() ? NONE : of.get(number);
    }

    /**
     * Returns how many (query, key) pairs are computed in {@code step}, of all rows of the batch and as a mean over
     * heads: rounded so that steps which share the heads sum to the whole. O(length / worldSize) time.
     */
    public long visiblePairs(int step) {
        Block block = forward(step).block();
        if (block == null) {
            return 0;
        }
        AttentionShape solved = schedule.problem(plan.problem()).shape();
        long pairs = pairs(block);
        long heads = plan.shape().queryHeads();
        long group = solved.queryHeads() / solved.kvHeads();
        long first = schedule.heads() == null ? 0 : schedule.heads().share().firstQuery();
        return block.heads().count() * group == heads
                ? pairs
                : pairs * (first + block.heads().to() * group) / heads
                        - pairs * (first + block.heads().from() * group) / heads;
    }

    private long pairs(Block block) {
        if (block.source() != knownSource) {
            Positions rows = schedule.problem(plan.problem()).queries().positions(schedule.rank(rank));
            Positions keys = schedule.sources().get(block.source());
            knownPairs = Visibility.pairs(plan.mask(), plan.shape().batch(), rows, keys);
            knownSource = block.source();
        }
        return knownPairs;
    }

    /** Returns the floating-point operations of a forward pass: two products per visible pair. */
    public double forwardFlops() {
        AttentionShape solved = schedule.problem(plan.problem()).shape();
        double pairs = 0; // of all rows and heads
        for (Step step : schedule.forward()) {
            Block block = step.block();
            pairs += block == null
                    ? 0
                    : (double) pairs(block) * (block.heads().count() * solved.queryHeads() / solved.kvHeads());
        }
        return 2 * pairs * (plan.shape().headDim() + plan.shape().valueDim());
    }

    /**
     * Returns the bytes sent in {@code step} of a forward pass: keys and values; where heads are exchanged queries,
     * outputs and lse too.
     */
    public long forwardBytesSent(int step) {
        return plan.bytesSent(forward(step)) + headBytesSent(step, steps(), Leg.FORWARD_OPERANDS, Leg.FORWARD_RESULTS);
    }

    /** Returns the bytes sent in a forward pass. */
    public long forwardBytesSent() {
        return bytesSent(schedule.forward()) + headBytesSent(Leg.FORWARD_OPERANDS) + headBytesSent(Leg.FORWARD_RESULTS);
    }

    /** Returns the bytes sent in {@code step} of a backward pass: as in forward, and dK and dV in the wire type. */
    public long backwardBytesSent(int step) {
        return plan.bytesSent(step(schedule.backward(), step))
                + headBytesSent(step, backwardSteps(), Leg.BACKWARD_OPERANDS, Leg.BACKWARD_RESULTS);
    }

    /** Returns the bytes sent in a backward pass. */
    public long backwardBytesSent() {
        return bytesSent(schedule.backward())
                + headBytesSent(Leg.BACKWARD_OPERANDS)
                + headBytesSent(Leg.BACKWARD_RESULTS);
    }

    /** Returns the bytes of heads that are sent in one of {@code steps} steps: the first or the last. */
    private long headBytesSent(int step, int steps, Leg first, Leg last) {
        return step == 0 ? headBytesSent(first) : step == steps - 1 ? headBytesSent(last) : 0;
    }

    private long headBytesSent(Leg leg) {
        HeadExchange heads = schedule.heads();
        return heads == null ? 0 : heads.bytesSent(leg, plan.wireDType());
    }

    private long bytesSent(List<Step> of) {
        long bytes = 0;
        for (Step step : of) {
            bytes += plan.bytesSent(step);
        }
        return bytes;
    }
}
