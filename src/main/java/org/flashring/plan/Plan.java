package org.flashring.plan;

import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.internal.Checks;
import org.flashring.internal.Native;
import org.flashring.kernel.StepKernel;
import org.flashring.plan.Schedule.Block;
import org.flashring.plan.Schedule.Exchange;
import org.flashring.plan.Schedule.Message;
import org.flashring.plan.Schedule.Part;
import org.flashring.plan.Schedule.Piece;
import org.flashring.plan.Schedule.Step;

/**
 * What context-parallel attention will do and need, known before anything runs: per step which keys a rank meets and
 * whether the mask leaves anything of them, the bytes it moves and the bytes it holds. What no kernel serves is refused
 * here, by name. How keys come to queries is the {@link Strategy}'s; unless one is given it is the {@link Ring}.
 */
public final class Plan {
    private final Problem problem;
    private final Strategy strategy;
    private final AttentionOptions options;
    private final IntFunction<Schedule> schedules;
    private final int steps;
    private final int backwardSteps;
    private final long[] workspace; // by rank
    private volatile Map<String, String> terms; // made when first asked for

    private Plan(Problem problem, Strategy strategy, AttentionOptions options) {
        this.problem = Checks.notNull("problem", problem);
        this.strategy = Checks.notNull("strategy", strategy);
        this.options = Checks.notNull("options", options);
        DType type = shape().dtype();
        DType wire = options.wireDType();
        if (wire != null && wire != type && wire != type.accumulator()) {
            throw Checks.broken(
                    "wireDType", wire, "be the tensors' own " + type + " or its accumulator " + type.accumulator());
        }
        this.schedules = strategy.schedules(problem);
        RankPlan first = new RankPlan(this, 0);
        this.steps = first.steps();
        this.backwardSteps = first.backwardSteps();
        this.workspace = new long[worldSize()];
        for (int rank = 0; rank < worldSize(); rank++) {
            workspace[rank] = requireServed(rank);
        }
    }

    /** Returns the workspace that the kernels of {@code rank} need; throws if a step is served by none. */
    private long requireServed(int rank) {
        long most = 0;
        Schedule schedule = schedule(rank);
        try (StepKernel kernel = kernel(rank, schedule)) {
            for (int direction = 0; direction <= (options.backward() ? Native.BACKWARD : Native.FORWARD); direction++) {
                boolean forward = direction == Native.FORWARD;
                kernel.heads(
                        0,
                        forward
                                ? schedule.room().forwardHeads()
                                : schedule.room().backwardHeads());
                kernel.requireSupported(direction);
                most = Math.max(most, kernel.workspaceBytes(direction));
            }
        }
        return most;
    }

    /**
     * Returns the plan of {@code problem} by {@code strategy}.
     *
     * @throws IllegalArgumentException if an argument is null or the wire type is none
     * @throws UnsupportedOperationException if no kernel serves the combination; the message names it
     */
    public static Plan of(Problem problem, Strategy strategy, AttentionOptions options) {
        return new Plan(problem, strategy, options);
    }

    /**
     * Returns the plan of self-attention over {@code layout}, by the ring.
     *
     * @throws IllegalArgumentException if an argument is null or sizes overflow
     * @throws UnsupportedOperationException if no kernel serves the combination; the message names it
     */
    public static Plan of(AttentionShape shape, Layout layout, Mask mask, AttentionOptions options) {
        return of(Problem.of(shape, layout, mask), new Ring(), options);
    }

    /**
     * Returns the plan of attention whose queries and keys are laid out apart, as when new tokens, whose layout
     * {@linkplain Layout#startingAt starts} at the length of a cache, meet the keys of all.
     */
    public static Plan of(AttentionShape shape, Layout queries, Layout keys, Mask mask, AttentionOptions options) {
        return of(new Problem(shape, queries, keys, mask, Score.standard()), new Ring(), options);
    }

    /** Returns the plan of the same problem by the same strategy with other options. */
    public Plan with(AttentionOptions newOptions) {
        return of(problem, strategy, newOptions);
    }

    /**
     * Returns what all ranks must agree on to run this plan together, by name: shape, layouts, mask, score, strategy
     * and options. Long lists of offsets are there in parts, by digests. It is compared over the ranks before an
     * operation's first call.
     */
    public Map<String, String> terms() {
        Map<String, String> known = terms;
        if (known == null) {
            known = PlanTerms.of(this);
            terms = known;
        }
        return known;
    }

    /** Returns the problem. */
    public Problem problem() {
        return problem;
    }

    /** Returns how keys come to queries. */
    public Strategy strategy() {
        return strategy;
    }

    /** Returns what {@code rank} does. */
    public Schedule schedule(int rank) {
        Checks.between("rank", rank, 0, worldSize() - 1L);
        return schedules.apply(rank);
    }

    /** Returns where the buffers of {@code rank} lie, which runs {@code schedule}. */
    public Footprint footprint(int rank, Schedule schedule) {
        return Footprint.of(this, schedule, rank);
    }

    /** Returns a new step kernel of {@code rank}, which runs {@code schedule}; to be placed on a device and closed. */
    public StepKernel kernel(int rank, Schedule schedule) {
        Problem solved = schedule.problem(problem);
        return new StepKernel(
                solved.shape(),
                solved.score(),
                options,
                solved.mask(),
                solved.queries().positions(schedule.rank(rank)),
                schedule.sources());
    }

    /**
     * Returns a new step kernel of {@code rank}'s own queries, of all heads, which meet no keys; to be placed on a
     * device and closed.
     */
    public StepKernel ownRowsKernel(int rank) {
        return new StepKernel(
                shape(), problem.score(), options, mask(), queries().positions(rank), List.of());
    }

    /** Returns the shape. */
    public AttentionShape shape() {
        return problem.shape();
    }

    /** Returns the layout of the queries. */
    public Layout queries() {
        return problem.queries();
    }

    /** Returns the layout of the keys and values. */
    public Layout keys() {
        return problem.keys();
    }

    /** Returns the mask. */
    public Mask mask() {
        return problem.mask();
    }

    /** Returns the options. */
    public AttentionOptions options() {
        return options;
    }

    /** Returns the number of ranks. */
    public int worldSize() {
        return problem.worldSize();
    }

    /** Returns the number of steps of a forward pass, exchanges of heads included; of a ring in [1, worldSize()]. */
    public int steps() {
        return steps;
    }

    /** Returns the number of steps of a backward pass: as many, unless a ring carries some heads at a time. */
    public int backwardSteps() {
        return backwardSteps;
    }

    /** Returns what {@code rank} meets, computes and sends, step by step. */
    public RankPlan ofRank(int rank) {
        return new RankPlan(this, rank);
    }

    /**
     * Returns the rank whose keys {@code rank} meets in {@code step}; -1 where they are no rank's or several ranks'.
     */
    public int source(int rank, int step) {
        return ofRank(rank).source(step);
    }

    /** Returns the rank whose keys {@code block} holds; -1 for no block, or one of several ranks' keys. */
    public static int sourceOf(Schedule schedule, Block block) {
        return schedule.heads() != null || block == null || block.keys().size() > 1
                ? -1
                : block.keys().get(0).piece().rows().owner();
    }

    /**
     * Returns whether {@code rank} computes in {@code step}: the mask leaves something, or it has to be computed all
     * the same.
     */
    public boolean computes(int rank, int step) {
        return ofRank(rank).computes(step);
    }

    /** Returns the last step in which {@code rank} computes. */
    public int lastComputed(int rank) {
        return ofRank(rank).lastComputed();
    }

    /**
     * Returns how many (query, key) pairs {@code rank} computes in {@code step}, of all rows of the batch and as a mean
     * over heads: rounded so that steps which share the heads sum to the whole. O(length / worldSize) time.
     */
    public long visiblePairs(int rank, int step) {
        return ofRank(rank).visiblePairs(step);
    }

    /** Returns the floating-point operations of {@code rank}'s forward pass: two products per visible pair. */
    public double forwardFlops(int rank) {
        return ofRank(rank).forwardFlops();
    }

    /**
     * Returns the bytes that {@code rank} sends in {@code step} of a forward pass: keys and values; where heads are
     * exchanged queries, outputs and lse too.
     */
    public long forwardBytesSent(int rank, int step) {
        return ofRank(rank).forwardBytesSent(step);
    }

    /** Returns the bytes that {@code rank} sends in a forward pass: keys and values, once per hop. */
    public long forwardBytesSent(int rank) {
        return ofRank(rank).forwardBytesSent();
    }

    /**
     * Returns the bytes that {@code rank} sends in {@code step} of a backward pass: as in forward, and dK and dV in the
     * wire type.
     */
    public long backwardBytesSent(int rank, int step) {
        return ofRank(rank).backwardBytesSent(step);
    }

    /**
     * Returns the bytes that {@code rank} sends in a backward pass: keys and values again, and dK and dV in the wire
     * type.
     */
    public long backwardBytesSent(int rank) {
        return ofRank(rank).backwardBytesSent();
    }

    /** Returns the bytes that a rank sends in {@code step} of its schedule. */
    public long bytesSent(Step step) {
        return bytesSent(step.before()) + bytesSent(step.ahead()) + bytesSent(step.after());
    }

    private long bytesSent(Exchange exchange) {
        long bytes = 0;
        for (int i = 0; exchange != null && i < exchange.sends().size(); i++) {
            Message message = exchange.sends().get(i);
            bytes += bytes(message.held().piece());
        }
        return bytes;
    }

    /** Returns the bytes of keys and values, or of their gradients while they travel. */
    public long bytes(Piece piece) {
        long elements = problem.keyElements(piece.rows().count(), piece.heads().count());
        return elements * (piece.part() == Part.KEY_GRADS ? wireDType() : shape().dtype()).bytes();
    }

    /**
     * Returns the bytes of all buffers of {@code rank}'s operation, workspace included; the caller's tensors are not
     * counted.
     */
    public long bytesHeld(int rank) {
        return footprint(rank, schedule(rank)).totalBytes();
    }

    /** Returns the bytes of kernel workspace in {@link #bytesHeld}. */
    public long workspaceBytes(int rank) {
        return workspace[rank];
    }

    /**
     * Returns the bytes of q, k, v, output and lse of {@code rank}, and of their gradients when backward is on: the
     * caller's. A plan without backward counts the lse, which it can do without.
     */
    public long callerBytes(int rank) {
        return callerElements(rank) * shape().dtype().bytes() * (options.backward() ? 2 : 1) + lseBytes(rank);
    }

    /** Returns the bytes of q, k, v, output and lse of {@code rank}: what is kept of a layer until its backward. */
    public long savedBytes(int rank) {
        return callerElements(rank) * shape().dtype().bytes() + lseBytes(rank);
    }

    private long callerElements(int rank) {
        AttentionShape shape = shape();
        long perQuery = shape.queryHeads() * (shape.headDim() + shape.valueDim());
        return shape.batch() * queries().localLength(rank) * perQuery
                + problem.keyElements(keys().localLength(rank), shape.kvHeads());
    }

    private long lseBytes(int rank) {
        AttentionShape shape = shape();
        return shape.batch()
                * queries().localLength(rank)
                * shape.queryHeads()
                * shape.dtype().accumulator().bytes();
    }

    /** Returns the type in which dK and dV travel, and dQ where heads are exchanged. */
    public DType wireDType() {
        return options.wireDType() == null ? shape().dtype().accumulator() : options.wireDType();
    }

    /**
     * Returns how heads are dealt to the ranks of a group, and how much more than the mean the busiest computes;
     * nothing where each rank computes all heads.
     */
    public String headsDealt() {
        HeadExchange heads = schedule(0).heads();
        return heads == null ? "" : heads.dealt();
    }

    /** Returns a few lines for people: the steps, and what each rank computes, sends and holds. */
    @Override
    public String toString() {
        return PlanText.of(this);
    }
}
