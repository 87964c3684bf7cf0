package org.flashring.cli.train.dense;

import java.util.Arrays;
import java.util.List;
import org.flashring.DType;
import org.flashring.cli.train.dense.PhaseClock.Part;
import org.flashring.comm.Communicator;

/**
 * The weights of a model, whole on every rank, and AdamW, whose state is sharded: of each group of parameters a rank
 * has a nearly equal part of master weights, means and summed gradients. Initial values, sums and steps are those of
 * one rank. On GPUs gradients and weights go round beside the work of the step, on a stream and among a group of their
 * own: there is room for the gradients of two groups of parameters, the one that is summed and the one that is made.
 */
final class ShardedAdamW {
    /** What is kept of each parameter, by the name that checkpoints give it; all of the wide type. */
    enum State {
        MASTER("master"),
        MEAN("mean"),
        SQUARE_MEAN("square mean");

        private final String block;

        State(String block) {
            this.block = block;
        }
    }

    /**
     * A rank's part of a group.
     *
     * @param first its first element among those of all parameters
     * @param place its first element among those that this rank has
     */
    record Share(int group, long first, long count, long place) {}

    private final Parameters parameters;
    private final Communicator ranks;
    private final Communicator exchange; // the same ranks, in the order of what is beside
    private final Beside beside;
    private final Ops ops;
    private final Staging staging;
    private final AdamW settings;
    private final long[][] counts; // of each group, by rank
    private final long[][] bytes; // of weights, likewise
    private final Share[] shares;
    private final long elements; // of all shares
    private final long weights;
    private final long[] gradients; // of groups in turn
    private final long gradientShare;
    private final long figures;
    private final long[] states = new long[State.values().length];
    private long updates;
    private long room; // of the gradients of the group at hand

    /**
     * Makes it over {@code ranks}, which have the same parameters, in the arena at {@code base}.
     *
     * @param exchange the same ranks, or another group of them for what goes on in {@code beside}
     * @param beside with as many marks as there is room for groups
     */
    ShardedAdamW(
            Parameters parameters,
            Communicator ranks,
            Communicator exchange,
            Beside beside,
            Ops ops,
            Staging staging,
            AdamW settings,
            MemoryPlan memory,
            long base) {
        this.parameters = parameters;
        this.ranks = ranks;
        this.exchange = exchange;
        this.beside = beside;
        ranks.stream(ops.stream());
        if (exchange != ranks) {
            exchange.stream(beside.stream());
        }
        this.ops = ops;
        this.staging = staging;
        this.settings = settings;
        int groups = parameters.groups();
        this.counts = new long[groups][];
        this.bytes = new long[groups][];
        this.shares = new Share[groups];
        long place = 0;
        for (int group = 0; group < groups; group++) {
            counts[group] = parameters.shares(group, ranks.worldSize());
            bytes[group] = new long[ranks.worldSize()];
            long first = parameters.start(group);
            for (int rank = 0; rank < ranks.worldSize(); rank++) {
                bytes[group][rank] = counts[group][rank] * ops.type().bytes();
                if (rank == ranks.rank()) {
                    shares[group] = new Share(group, first, counts[group][rank], place);
                }
                first += counts[group][rank];
            }
            place += shares[group].count();
        }
        this.elements = place;
        this.weights = base + memory.offset("weights");
        this.gradients = new long[beside.marks()];
        Arrays.setAll(gradients, i -> base + memory.offset("gradients") + i * StepMemory.room(parameters, ops.wide()));
        this.gradientShare = base + memory.offset("gradient share");
        this.figures = base + memory.offset("figures");
        for (State state : State.values()) {
            states[state.ordinal()] = base + memory.offset(state.block);
        }
    }

    /** Returns this rank's parts. */
    List<Share> shares() {
        return List.of(shares);
    }

    /** Returns the address of an element of the weights. */
    long weight(long element) {
        return weights + element * ops.type().bytes();
    }

    /** Returns the address of an element of the gradients of the group at hand. */
    long gradient(long elementOfGroup) {
        return room + elementOfGroup * ops.wide().bytes();
    }

    /** Returns where a share's part of a state lies. */
    long address(State state, Share share) {
        return states[state.ordinal()] + share.place() * ops.wide().bytes();
    }

    /** Returns where a share's summed gradients lie. */
    long gradients(Share share) {
        return gradientShare + share.place() * ops.wide().bytes();
    }

    /** Returns the address of the loss among the figures that {@link #update} sums. */
    long lossFigure() {
        return figures;
    }

    /** Returns where the figures of losses by position begin. */
    long positionFigures() {
        return figures + 2 * Double.BYTES;
    }

    private long normFigure() {
        return figures + Double.BYTES;
    }

    /** Sets the initial values. Collective. */
    void initialize(long seed) {
        DType wide = ops.wide();
        for (Share share : shares) {
            long end = share.first() + share.count();
            for (Parameters.Parameter parameter : parameters.all()) {
                long from = Math.max(share.first(), parameter.start());
                long to = Math.min(end, parameter.end());
                if (from < to) {
                    ops.initial(
                            InitialValues.of(seed, parameter),
                            from - parameter.start(),
                            address(State.MASTER, share) + (from - share.first()) * wide.bytes(),
                            to - from);
                }
            }
        }
        ops.clear(states[State.MEAN.ordinal()], elements * wide.bytes());
        ops.clear(states[State.SQUARE_MEAN.ordinal()], elements * wide.bytes());
        updates = 0;
        publish();
    }

    /** Gives all ranks the weights that follow from this rank's masters, which have been set. Collective. */
    void publish() {
        for (Share share : shares) {
            ops.round(address(State.MASTER, share), weight(share.first()), share.count());
        }
        gatherAll();
    }

    private void gatherAll() {
        for (Share share : shares) {
            gather(share);
        }
        join();
    }

    private void gather(Share share) {
        beside.fork();
        exchange.allGather(weight(share.first()), bytes[share.group()], weight(parameters.start(share.group())));
        beside.mark(place(share.group()));
    }

    /** Returns which room a group's gradients have: another than those of the groups before and after it. */
    private int place(int group) {
        return group % gradients.length;
    }

    /** Lets what the step does next come after all exchange. */
    void join() {
        ops.clock().enter(Part.SYNC);
        for (int i = 0; i < gradients.length; i++) {
            beside.join(i);
        }
    }

    /** Readies the gradients of a group, all 0, once those before them in their room have been summed. */
    void begin(int group) {
        ops.clock().enter(Part.SYNC);
        beside.join(place(group));
        room = gradients[place(group)];
        ops.clear(room, parameters.elements(group) * ops.wide().bytes());
    }

    /** Sums the gradients of the group at hand over ranks, by the time of {@link #join}. Collective. */
    void reduce(int group) {
        ops.clock().enter(Part.SYNC);
        beside.fork();
        exchange.reduceScatter(room, counts[group], ops.wide(), gradients(shares[group]));
        beside.mark(place(group));
    }

    /**
     * What a step came to, the same on all ranks.
     *
     * @param lossSum over all tokens
     * @param norm of all gradients together, before they were clipped
     * @param taken whether the parameters were changed: the norm is finite
     */
    record Result(double lossSum, double norm, boolean taken) {}

    /** Takes a step with the summed gradients, unless one is not finite. Collective. */
    Result update() {
        ops.clock().enter(Part.OPTIMIZER);
        ops.squareSum(gradientShare, elements, normFigure());
        ops.clock().enter(Part.SYNC);
        ranks.allReduce(figures, StepMemory.FIGURES, DType.FLOAT64);
        ops.clock().enter(Part.OPTIMIZER);
        for (Share share : shares) {
            ops.adamW(
                    settings,
                    updates + 1,
                    gradients(share),
                    address(State.MASTER, share),
                    address(State.MEAN, share),
                    address(State.SQUARE_MEAN, share),
                    weight(share.first()),
                    share.count(),
                    normFigure());
            gather(share);
        }
        join();
        exchange.synchronize();
        ranks.synchronize(); // which knows a deadline, and what became of the peers
        double square = staging.getDouble(normFigure());
        boolean taken = Double.isFinite(square);
        updates += taken ? 1 : 0;
        return new Result(staging.getDouble(lossFigure()), Math.sqrt(square), taken);
    }

    /** Returns the sum over ranks of a number of the host, in the place of the loss. Collective. */
    double sum(double own) {
        staging.put(DType.FLOAT64, lossFigure(), 1, (first, to, count) -> to[0] = own);
        ranks.allReduce(lossFigure(), 1, DType.FLOAT64);
        ranks.synchronize();
        return staging.getDouble(lossFigure());
    }

    /** Returns how many steps were taken. */
    long updates() {
        return updates;
    }

    /** Sets how many steps were taken before. */
    void updates(long taken) {
        updates = taken;
    }
}
