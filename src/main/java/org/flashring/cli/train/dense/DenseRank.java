package org.flashring.cli.train.dense;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import org.flashring.DType;
import org.flashring.Threads;
import org.flashring.comm.Communicator;
import org.flashring.device.OwnedMemory;
import org.flashring.plan.Plan;
import org.flashring.sync.Labels;
import org.flashring.sync.ShardedBatch;
import org.flashring.sync.TokenLoss;

/**
 * One rank of a training run: its arena, the weights and its part of the optimizer's state. All memory is taken here,
 * and steps take none but for the arrays of a batch. One thread uses it.
 */
public final class DenseRank implements AutoCloseable {
    /**
     * What a step came to, the same on all ranks.
     *
     * @param loss mean over all targets, in nats, before the step
     * @param norm of all gradients together, before they were clipped
     * @param taken false if a gradient was not finite: nothing has then changed
     */
    public record Figures(double loss, double norm, boolean taken) {}

    private final DenseSettings settings;
    private final int rank;
    private final Plan plan;
    private final MemoryPlan memory;
    private final Parameters parameters;
    private final Ops ops;
    private final Owners owned;
    private final Staging staging;
    private final OwnedMemory arena;
    private final Communicator sequence; // of the ranks that share this one's rows
    private final Communicator all;
    private final TokenLoss loss;
    private final DenseAttention attention;
    private final long besideArenas; // bytes of the device, as it is before any
    private final BatchBlock batch;
    private final PositionLoss positionLoss;
    private final ShardedAdamW optimizer;
    private final DenseStep step;

    /**
     * Makes this rank's part, the parameters not yet set. Collective over the settings' mesh.
     *
     * @throws IllegalArgumentException unless {@code world} has the mesh's ranks, on the kind of device of the settings
     * @throws OutOfMemoryError if the arena cannot be had; the others then learn of it
     */
    public DenseRank(DenseSettings settings, AdamW adamW, Communicator world) {
        if (world.device().isCuda() != settings.cuda()) {
            throw new IllegalArgumentException("world.device is " + world.device() + "; it must be "
                    + (settings.cuda() ? "a CUDA device" : "the host") + ", as the settings are for");
        }
        this.settings = settings;
        this.rank = world.rank();
        MemoryWatch watch = new MemoryWatch(world.device());
        this.plan = settings.attention(rank);
        this.memory = StepMemory.of(settings, plan, rank);
        this.parameters = new Parameters(settings.model());
        try (Owners made = new Owners()) {
            try {
                this.all = made.add(settings.mesh().split(world, "dp x cp"));
                this.sequence = settings.mesh().dataParallelSize() == 1
                        ? all
                        : made.add(settings.mesh().split(world, "cp"));
                boolean inTurn = StepMemory.rooms(settings) == 1; // exchange and attention
                Communicator exchange = inTurn ? all : made.add(settings.mesh().split(world, "dp x cp"));
                world.agree(terms(settings, adamW));
                this.ops = ops(settings.type(), world, made);
                this.loss = made.add(new TokenLoss(all));
                this.staging = made.add(new Staging(ops));
                this.besideArenas = settings.cuda() ? besideArenas(watch, exchange) : 0;
                this.arena = made.add(OwnedMemory.allocate(world.device(), memory.arena()));
                int slots = settings.recompute() == Recompute.FULL ? 1 : settings.slots();
                this.attention =
                        made.add(new DenseAttention(settings, plan, sequence, memory, arena, slots, ops.stream()));
                long base = arena.address();
                long tokens = StepMemory.tokens(settings, rank);
                OffloadedLayers offloaded = settings.offload()
                        ? made.add(new OffloadedLayers(settings, tokens, memory, base, world.device(), ops))
                        : null;
                this.batch = new BatchBlock(
                        base + memory.offset("batch"),
                        Math.toIntExact(tokens),
                        settings.model().vocabulary());
                this.positionLoss = new PositionLoss(Math.toIntExact(tokens), settings.documents());
                Beside sums = made.add(new Beside(world.device(), ops.stream(), StepMemory.rooms(settings)));
                this.optimizer = new ShardedAdamW(parameters, all, exchange, sums, ops, staging, adamW, memory, base);
                this.step = new DenseStep(
                        settings, parameters, ops, optimizer, attention, offloaded, batch, tokens, memory, base);
                this.owned = made.keep();
            } catch (RuntimeException | Error e) {
                world.abort(e); // before this rank leaves its groups, in which the others would see no more than that
                throw e;
            }
        }
    }

    /**
     * Returns the bytes of the device that groups, streams, libraries and workspaces of its ranks hold before any has
     * an arena. Collective.
     */
    private long besideArenas(MemoryWatch watch, Communicator exchange) {
        all.barrier();
        exchange.barrier(); // each group has then made what it works with
        long bytes = watch.bytes();
        all.barrier(); // no rank goes on to its arena before all have looked
        return bytes;
    }

    private static Ops ops(DType type, Communicator world, Owners owners) {
        if (!world.device().isCuda()) {
            return owners.add(new HostOps(type, Threads.get()));
        }
        Ops ops = null;
        for (int rank = 0; rank < world.worldSize(); rank++) {
            if (rank == world.rank()) {
                ops = owners.add(new CudaOps(type, world.device()));
            }
            world.barrier(); // one after the other: processes unpack natives into the same files
        }
        return ops;
    }

    private static Map<String, String> terms(DenseSettings settings, AdamW adamW) {
        Map<String, String> terms = new TreeMap<>();
        terms.put("model", settings.model().toString());
        terms.put("rows", String.valueOf(settings.rows()));
        terms.put("type", settings.type().toString());
        terms.put("optimizer", adamW.toString());
        terms.put("recompute", settings.recompute().toString());
        terms.put("offload", String.valueOf(settings.offload()));
        terms.put("head groups", String.valueOf(settings.headGroups()));
        return terms;
    }

    /** Sets the initial values of a seed. Collective. */
    public void initialize(long seed) {
        optimizer.initialize(seed);
    }

    /**
     * Takes a step of training by which each token learns the next one of its document. Collective.
     *
     * @param tokens [rows][length] ids, the same on every rank
     * @throws IllegalArgumentException if the rows are not those of the settings, or an id is none of the vocabulary
     */
    public Figures step(long[][] tokens) {
        ops.clock().start();
        long targets = gradients(tokens);
        ShardedAdamW.Result result = optimizer.update();
        ops.clock().stop();
        return new Figures(result.lossSum() / targets, result.norm(), result.taken());
    }

    /** Returns whether any rank says yes, so that all do the same. Collective, between steps. */
    public boolean any(boolean yes) {
        return optimizer.sum(yes ? 1 : 0) > 0;
    }

    /** Returns the number of targets, having summed the gradients of the mean loss over ranks. Collective. */
    long gradients(long[][] tokens) {
        if (tokens.length != settings.rows()) {
            throw new IllegalArgumentException(
                    "tokens.length is " + tokens.length + "; it must be " + settings.rows() + ", the rows of a step");
        }
        ShardedBatch share = ShardedBatch.of(
                settings.mesh(), tokens.length, tokens, Labels.next(tokens, plan.queries(), plan.mask()), rank);
        batch.fill(share, staging);
        long targets = loss.totalTargets(share.targets());
        step.run(1.0 / targets);
        positionLoss.sum(share, staging, arena.address() + memory.offset("losses"), optimizer.positionFigures());
        return targets;
    }

    /**
     * Returns the mean loss of the last step by the position of tokens in their documents, over all ranks: in bins of
     * equal length over the longest document. NaN where no token lies in one.
     */
    public double[] lossByPosition() {
        return PositionLoss.means(staging, optimizer.positionFigures());
    }

    /** Returns the seconds of the last step by what this rank did, in order; empty where nothing is timed. */
    public Map<String, Double> seconds() {
        Map<String, Double> seconds = new LinkedHashMap<>();
        ops.clock().seconds().forEach((part, value) -> seconds.put(part.toString(), value));
        return seconds;
    }

    /** Returns the bytes of its device that this rank holds by plan: its arena, and what lies outside it. */
    public long bytesHeld() {
        long others = memory.total() - memory.arena() - memory.bytesByName().get("attention");
        return arena.memory().bytes() + attention.bytesHeld() + others;
    }

    /**
     * Returns the bytes of its GPU that each of {@code sharers} ranks on it holds beside the plan: groups, streams, and
     * what libraries load, as measured before arenas were taken. 0 on the host.
     */
    public long bytesBeside(int sharers) {
        return Math.max(0, besideArenas / sharers - StepMemory.WORKSPACE);
    }

    /** Returns the number of learnt values. */
    public long parameterCount() {
        return parameters.elements();
    }

    /** Returns the bytes of each block of this rank's memory, by name. */
    public Map<String, Long> bytesByName() {
        return memory.bytesByName();
    }

    Parameters parameters() {
        return parameters;
    }

    ShardedAdamW optimizer() {
        return optimizer;
    }

    Staging staging() {
        return staging;
    }

    Ops ops() {
        return ops;
    }

    Communicator all() {
        return all;
    }

    DenseSettings settings() {
        return settings;
    }

    @Override
    public void close() {
        owned.close();
    }
}
