package org.flashring.serve;

import java.lang.ref.Reference;
import java.util.ArrayList;
import java.util.List;
import org.flashring.Tensor;
import org.flashring.attention.Entrance;
import org.flashring.comm.Communicator;
import org.flashring.device.Device;
import org.flashring.device.Memory;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Checks;
import org.flashring.internal.Made;
import org.flashring.kernel.CacheStep;
import org.flashring.kernel.TensorMath;

/**
 * The keys and values of sequences that are decoded, a sequence a row, of all layers; and attention of new tokens over
 * them. A step brings each row the same number of new tokens, or as many as {@link #newLengths} says: for each layer
 * {@link #append} and {@link #forward}, then {@link #advance}. A row's new tokens are its last ones: each sees the keys
 * before it, and itself. A prompt is a step of many tokens.
 *
 * <p>Lengths lie on the device, and each step reads them there: a step that has been captured in a CUDA graph can be
 * replayed, each replay going on where the one before ended. Calls allocate nothing, and do not wait for the device but
 * where they bring it tables: {@link #newLengths}, {@link #reserve}, {@link #release}, and an append that takes pages.
 * They queue their work in the order of a stream, which is to be the same for all calls, or ordered by the caller; on
 * the host it is 0.
 *
 * <p>Where the plan deals pages over ranks, every rank makes its cache with its communicator and calls the same methods
 * in the same order, with the same tokens and lengths: the cache keeps those that are the rank's. Each rank computes
 * all queries over its own keys, and all get the same bits, merged in the order of ranks. A row grows without moving.
 *
 * <p>One thread at a time uses a cache.
 */
public final class Cache implements AutoCloseable {
    private final CachePlan plan;
    private final Entrance entrance;
    private final CacheChecks checks;
    private final List<Runnable> frees = new ArrayList<>();
    private final Layers layers;
    private final CacheStep step;
    private final TensorMath math;
    private final Rows rows;
    private final States states; // null for a cache on one rank
    private final int rank;
    private final OwnedMemory scratch; // lse that nobody wants
    private final StepProgress progress;

    /**
     * Makes an empty cache in memory of its own on a device.
     *
     * @throws IllegalArgumentException if the plan is for several ranks or for the other kind of device
     * @throws UnsupportedOperationException if no kernel serves the plan, which the message says
     * @throws OutOfMemoryError if the device has no such memory
     */
    public Cache(CachePlan plan, Device device) {
        this(plan, device, null, null, null);
    }

    /**
     * Makes this rank's share of an empty cache dealt over ranks, in memory of its own on their device. Collective.
     *
     * @throws IllegalArgumentException if the plan is for another number of ranks or for the other kind of device
     * @throws org.flashring.comm.CommunicationException if ranks have different plans
     * @throws UnsupportedOperationException if no kernel serves the plan, which the message says
     */
    public Cache(CachePlan plan, Communicator ranks) {
        this(plan, Checks.notNull("ranks", ranks).device(), ranks, null, null);
    }

    /** Makes this rank's share in the caller's memory: as the constructors with ranks, and with memory. */
    public Cache(CachePlan plan, Communicator ranks, List<Tensor> keys, List<Tensor> values) {
        this(plan, Checks.notNull("ranks", ranks).device(), ranks, Checks.notNull("keys", keys), values);
    }

    /**
     * Makes an empty cache in the caller's memory, which is to stay until the cache is closed: a tensor a layer of
     * [batch, capacity, kvHeads, dim], or where there are pages [pages, pageSize, kvHeads, dim], in any strides.
     *
     * @throws IllegalArgumentException as the other constructor, or if a tensor does not fit
     * @throws UnsupportedOperationException if no kernel serves the plan, which the message says
     */
    public Cache(CachePlan plan, List<Tensor> keys, List<Tensor> values) {
        this(plan, CacheChecks.deviceOf(keys), null, keys, values);
    }

    private Cache(CachePlan plan, Device device, Communicator ranks, List<Tensor> givenKeys, List<Tensor> givenValues) {
        this.plan = Checks.notNull("plan", plan);
        CacheChecks.fits(plan, device, ranks);
        this.entrance = new Entrance("Cache", "", device);
        this.checks = new CacheChecks(plan, device);
        this.progress = new StepProgress(plan.layers());
        this.rank = ranks == null ? 0 : ranks.rank();
        try (Made made = new Made()) {
            this.step = made.add(plan.step(rank));
            step.requireSupported(plan.tokensAtOnce());
            this.math = made.add(new TensorMath(device));
            this.rows = made.add(new Rows(plan, rank, device));
            this.states = plan.ranks() == 1 ? null : made.add(new States(plan, ranks));
            this.scratch = made.add(OwnedMemory.allocate(device, states == null ? plan.lseBytes() : 0));
            long bytes = step.workspaceBytes(plan.tokensAtOnce());
            OwnedMemory workspace = made.add(OwnedMemory.allocate(device, bytes));
            step.place(device, workspace.address(), bytes, rows.pageTable(), plan.pagesOfRow());
            frees.addAll(List.of(step::close, math::close, rows::close, scratch::close, workspace::close));
            if (states != null) {
                frees.add(states::close);
            }
            if (givenKeys == null) {
                OwnedMemory memory = made.add(OwnedMemory.allocate(device, Layers.bytes(plan)));
                frees.add(memory::close);
                this.layers = new Layers(plan, memory.memory());
            } else {
                this.layers = new Layers(plan, checks, givenKeys, givenValues);
            }
            if (ranks != null) {
                ranks.agree(plan.terms()); // last: who fails before is told by its group's end
            }
            made.keep();
        }
    }

    /** Returns the plan. */
    public CachePlan plan() {
        return plan;
    }

    /**
     * Returns the keys of a layer, as they lie: [batch, capacity, kvHeads, dim], or in pages.
     *
     * @throws UnsupportedOperationException if they are kept as another type than the shape's
     */
    public Tensor keys(int layer) {
        entrance.requireOpen();
        return layers.keys(checks.layer(layer));
    }

    /** Returns the values of a layer: as {@link #keys}. */
    public Tensor values(int layer) {
        entrance.requireOpen();
        return layers.values(checks.layer(layer));
    }

    /** Returns the lengths of all rows on the device, int32: what each held when the step began. */
    public Memory lengths() {
        entrance.requireOpen();
        return rows.lengths();
    }

    /** Returns the keys that a row held when the step began, as the host counts them: see {@link #replayed}. */
    public long length(int row) {
        entrance.requireOpen();
        return rows.length(checks.row(row));
    }

    /** Returns the pages that no row has, of the rank that has the fewest; 0 where rows lie in one piece. */
    public int freePages() {
        entrance.requireOpen();
        return rows.freePages();
    }

    /** Sets a layer's sinks, [1, 1, heads, 1], which are read by each step; they are to stay until the close. */
    public void sinks(int layer, Tensor ofHeads) {
        entrance.requireOpen();
        checks.sinks(ofHeads);
        layers.sinks(checks.layer(layer), ofHeads);
    }

    /**
     * Sets a layer's scales, [1, 1, kvHeads, 1] of float32, finite and above 0, which are read by each call; they are
     * to stay until the close. What is appended is divided by them. A layer without has 1 of each head.
     *
     * @throws IllegalArgumentException if a tensor does not fit, or the plan's type has no scales
     */
    public void scales(int layer, Tensor ofKeys, Tensor ofValues) {
        entrance.requireOpen();
        checks.scales("ofKeys", ofKeys);
        checks.scales("ofValues", ofValues);
        layers.scales(checks.layer(layer), ofKeys, ofValues);
    }

    /** As {@link #newLengths(int[], long)}, on the default stream. */
    public void newLengths(int... ofRow) {
        newLengths(ofRow, 0);
    }

    /**
     * Says how many new tokens each row has in the steps that follow: of tensors that may be longer, the first ones; 0
     * for rows that rest. The rest of out is then 0, of lse -infinity, or with sinks the sink. Without any, all rows
     * have as many as the tensors are long. A captured step heeds them only if there were some when it was captured.
     *
     * @throws IllegalArgumentException unless there is one for each row, or none, from 0 to the plan's newTokens
     * @throws IllegalStateException in the midst of a step, or if the stream is being captured in a CUDA graph
     */
    public void newLengths(int[] ofRow, long stream) {
        int current = entrance.enter();
        try {
            checks.newLengths(ofRow);
            checks.stream(stream);
            progress.requireBetweenSteps("new lengths");
            rows.newLengths(ofRow, stream);
        } finally {
            entrance.leave(current);
        }
    }

    /**
     * Makes sure that a row has the pages of its first {@code keysOfRow} keys, which {@link #append} does otherwise: so
     * that a graph can be captured and replayed up to there.
     *
     * @throws IllegalStateException if a rank has not so many free pages, or the stream is being captured in a CUDA
     *     graph; nothing has then changed
     */
    public void reserve(int row, long keysOfRow, long stream) {
        int current = entrance.enter();
        try {
            checks.row(row);
            Checks.between("keysOfRow", keysOfRow, 0, plan.capacity());
            checks.stream(stream);
            rows.reserve(row, keysOfRow, stream);
        } finally {
            entrance.leave(current);
        }
    }

    /** As {@link #append(int, Tensor, Tensor, long)}, on the default stream. */
    public void append(int layer, Tensor k, Tensor v) {
        append(layer, k, v, 0);
    }

    /**
     * Brings a layer the step's new keys and values, behind those that each row holds. The first one of a step says how
     * many tokens it has.
     *
     * @param k [batch, tokens, kvHeads, headDim]
     * @param v [batch, tokens, kvHeads, valueDim]
     * @throws IllegalArgumentException if a tensor does not fit, or a row has no room
     * @throws IllegalStateException if a rank has not enough free pages, or if it takes some and the stream is being
     *     captured in a CUDA graph; nothing has then changed
     */
    public void append(int layer, Tensor k, Tensor v, long stream) {
        int current = entrance.enter();
        try {
            checks.layer(layer);
            boolean first = progress.tokens() == 0;
            long length = first ? Checks.notNull("k", k).length() : progress.tokens();
            Checks.between("k.length", length, 1, plan.newTokens());
            checks.newKeys("k", k, length, plan.shape().headDim());
            checks.newKeys("v", v, length, plan.shape().valueDim());
            checks.stream(stream);
            if (first) {
                rows.makeRoom(length, stream);
            }
            step.stream(stream);
            layers.bind(step, layer);
            long most = plan.tokensAtOnce();
            for (long part = 0, done = 0; done < length; part++, done += most) {
                step.append(
                        k,
                        v,
                        done,
                        Math.min(most, length - done),
                        rows.lengths(part),
                        rows.newTokens(part),
                        first ? rows.lengths(part + 1) : 0); // the same for all layers
            }
            progress.appended(layer, length); // now that it has all gone well
        } finally {
            entrance.leave(current);
            Reference.reachabilityFence(k); // kernels know their memory by address alone
            Reference.reachabilityFence(v);
        }
    }

    /** As {@link #forward(int, Tensor, Tensor, Tensor, long)}, without lse, on the default stream. */
    public void forward(int layer, Tensor q, Tensor out) {
        forward(layer, q, out, null, 0);
    }

    /**
     * Computes the attention of the step's new tokens over all keys that their rows hold, those of the step included,
     * which are to be appended before. Collective where the cache is dealt over ranks.
     *
     * @param q [batch, tokens, queryHeads, headDim]
     * @param out [batch, tokens, queryHeads, valueDim]
     * @param lse [batch, tokens, queryHeads, 1] of the accumulator type, natural log; null if it is not wanted
     * @throws IllegalArgumentException if a tensor does not fit
     * @throws IllegalStateException if nothing has been appended to the layer in this step
     * @throws org.flashring.comm.CommunicationException if another rank fails. One that fails itself once ranks have
     *     met in a call ends their group
     */
    public void forward(int layer, Tensor q, Tensor out, Tensor lse, long stream) {
        boolean met = false;
        int current = entrance.enter();
        try {
            checks.layer(layer);
            progress.requireAppended(layer);
            long tokens = progress.tokens();
            checks.queries(q, out, lse, tokens);
            checks.stream(stream);
            layers.requireSinks(plan, layer);
            step.stream(stream);
            if (states != null) {
                states.stream(stream);
            }
            layers.bind(step, layer);
            long most = plan.tokensAtOnce();
            for (long part = 0, done = 0; done < tokens; part++, done += most) {
                long count = Math.min(most, tokens - done);
                Tensor ofRank = rank == 0 ? layers.sinks(layer) : null; // they count once
                step.queries(q, done, count, rows.lengths(part + 1), rows.newTokens(part), ofRank);
                if (states == null) {
                    step.forward(out, lse, done, scratch.address());
                } else {
                    step.partial(states.outputs(count), states.sums(count));
                    met = true;
                    states.merge(layer, count, out, lse, done);
                }
            }
        } catch (RuntimeException | Error e) {
            if (met) {
                states.abort(e); // others may wait for this rank's next part
            }
            throw e;
        } finally {
            entrance.leave(current);
            Reference.reachabilityFence(q);
            Reference.reachabilityFence(out);
            Reference.reachabilityFence(lse);
        }
    }

    /** As {@link #advance(long)}, on the default stream. */
    public void advance() {
        advance(0);
    }

    /**
     * Ends a step: the new tokens belong to what the rows hold. Without it the next step would begin where this one
     * did. A step that is being captured in a CUDA graph brings nothing before its replays.
     *
     * @throws IllegalStateException if nothing has been appended in this step, or not to every layer
     */
    public void advance(long stream) {
        int current = entrance.enter();
        try {
            checks.stream(stream);
            progress.requireComplete();
            long tokens = progress.tokens();
            math.stream(stream);
            math.copyBytes(rows.lengths(0), rows.lengths(plan.parts(tokens)), (long) rows.count() * Integer.BYTES);
            rows.advance(tokens, stream);
            progress.end();
        } finally {
            entrance.leave(current);
        }
    }

    /**
     * Has the host count the step that was captured last in a CUDA graph: to be called after each replay, the first one
     * too, and before the next call. Else the device's lengths go on alone, and pages are not given back. The tokens of
     * a row are those of {@link #newLengths} if the graph heeds them, else as many as were captured.
     *
     * @throws IllegalStateException if no step was captured, or in the midst of one; or, all rows having been counted,
     *     if the replay left out tokens of a row that has no pages for them, such as a released one, or passed the
     *     plan's capacity. A row of a dealt cache that has lacked pages is good for nothing but its release
     */
    public void replayed() {
        int current = entrance.enter();
        try {
            progress.requireBetweenSteps("replays");
            rows.replayed();
        } finally {
            entrance.leave(current);
        }
    }

    /**
     * Empties a row, for another sequence; its pages are free.
     *
     * @throws IllegalStateException in the midst of a step, or if the stream is being captured in a CUDA graph
     */
    public void release(int row, long stream) {
        int current = entrance.enter();
        try {
            checks.row(row);
            checks.stream(stream);
            progress.requireBetweenSteps("releases");
            rows.release(row, stream);
        } finally {
            entrance.leave(current);
        }
    }

    /** Frees what the cache owns. Closing twice is harmless. */
    @Override
    public void close() {
        entrance.close(() -> frees.forEach(Runnable::run));
    }
}
