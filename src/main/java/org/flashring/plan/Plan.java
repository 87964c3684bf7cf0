package org.flashring.plan;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.internal.Checks;
import org.flashring.internal.Native;
import org.flashring.kernel.StepKernel;

/**
 * What context-parallel attention will do and need, known before anything runs: per ring step which keys a rank meets and
 * whether the mask leaves anything of them, the bytes it moves and the bytes it holds. What no kernel serves is refused here,
 * by name.
 *
 * <p>In step s, rank r holds the keys of rank (r - s) mod N. The ring ends after the last step in which any rank sees anything;
 * with a window that is early. Memory is O(length / worldSize): two slots for keys and values, whatever the world size.
 */
public final class Plan {
    private final AttentionShape shape;
    private final Layout queries;
    private final Layout keys;
    private final Mask mask;
    private final AttentionOptions options;
    private final boolean[][] sees; // [rank][step]
    private final int steps;
    private final long[][] workspace; // [direction][rank]
    private volatile Map<String, String> terms; // made when first asked for

    private Plan(AttentionShape shape, Layout queries, Layout keys, Mask mask, AttentionOptions options) {
        this.shape = Checks.notNull("shape", shape);
        this.queries = Checks.notNull("queries", queries);
        this.keys = Checks.notNull("keys", keys);
        this.mask = Checks.notNull("mask", mask);
        this.options = Checks.notNull("options", options);
        Checks.equal("keys.worldSize", keys.worldSize(), queries.worldSize(), "as that of the queries");
        long longest = Math.max(queries.length(), keys.length());
        long elements = Checks.product("batch * heads", shape.batch(), shape.queryHeads());
        elements = Checks.product("batch * heads * length", elements, Math.max(1, longest));
        Checks.product("bytes of a tensor", elements, 8 * Math.max(shape.headDim(), shape.valueDim()));
        DType wire = options.wireDType();
        if (wire != null && wire != shape.dtype() && wire != shape.dtype().accumulator()) {
            throw Checks.broken("wireDType", wire, "be the tensors' own " + shape.dtype() + " or its accumulator " + shape.dtype().accumulator());
        }
        requireRepresentable(options.scaleFor(shape), shape.dtype().accumulator());
        int world = queries.worldSize();
        this.sees = new boolean[world][world];
        int last = 0;
        for (int rank = 0; rank < world; rank++) {
            for (int step = 0; step < world; step++) {
                sees[rank][step] = anyVisible(queries.positions(rank), keys.positions(source(rank, step)));
                last = sees[rank][step] ? Math.max(last, step) : last;
            }
        }
        this.steps = last + 1;
        this.workspace = new long[2][world];
        for (int rank = 0; rank < world; rank++) {
            try (StepKernel kernel = kernel(rank)) {
                for (int direction = 0; direction <= (options.backward() ? Native.BACKWARD : Native.FORWARD); direction++) {
                    kernel.requireSupported(direction);
                    workspace[direction][rank] = kernel.workspaceBytes(direction);
                }
            }
        }
    }

    /** Throws unless scores in {@code type} can be multiplied by {@code scale}: powers of ten inside its normal numbers. */
    private static void requireRepresentable(double scale, DType type) {
        double least = type == DType.FLOAT64 ? 1e-307 : 1e-37;
        double most = type == DType.FLOAT64 ? 1e307 : 1e37;
        if (scale < least || scale > most) {
            throw Checks.broken("softmaxScale", scale, "be from " + least + " to " + most + " where scores are " + type);
        }
    }

    /**
     * Returns the plan of self-attention over {@code layout}.
     *
     * @throws IllegalArgumentException      if an argument is null or sizes overflow
     * @throws UnsupportedOperationException if no kernel serves the combination; the message names it
     */
    public static Plan of(AttentionShape shape, Layout layout, Mask mask, AttentionOptions options) {
        return new Plan(shape, layout, layout, mask, options);
    }

    /**
     * Returns the plan of attention whose queries and keys are laid out apart, as when new tokens, whose layout
     * {@linkplain Layout#startingAt starts} at the length of a cache, meet the keys of all.
     */
    public static Plan of(AttentionShape shape, Layout queries, Layout keys, Mask mask, AttentionOptions options) {
        return new Plan(shape, queries, keys, mask, options);
    }

    /**
     * Returns what all ranks must agree on to run this plan together, by name: shape, layouts, mask and options. Long
     * lists of offsets are there in parts, by digests. {@link org.flashring.attention.RingAttention} compares it over the ranks before its
     * first call.
     */
    public Map<String, String> terms() {
        Map<String, String> known = terms;
        if (known == null) {
            known = Collections.unmodifiableMap(describe());
            terms = known;
        }
        return known;
    }

    private Map<String, String> describe() {
        Map<String, String> all = new LinkedHashMap<>();
        all.put("batch", String.valueOf(shape.batch()));
        all.put("queryHeads", String.valueOf(shape.queryHeads()));
        all.put("kvHeads", String.valueOf(shape.kvHeads()));
        all.put("headDim", String.valueOf(shape.headDim()));
        all.put("valueDim", String.valueOf(shape.valueDim()));
        all.put("dtype", shape.dtype().name());
        queries.describe("layout of the queries", all);
        keys.describe("layout of the keys", all);
        mask.describe("mask", all);
        all.put("softmaxScale", String.valueOf(options.scaleFor(shape)));
        all.put("backward", String.valueOf(options.backward()));
        all.put("wireDType", wireDType().name());
        all.put("kernel", options.kernel().name());
        all.put("deterministic", String.valueOf(options.deterministic()));
        all.put("device", options.cuda() ? "cuda" : "host");
        return all;
    }

    /** Returns a new step kernel of {@code rank}, to be placed on a device and closed. */
    public StepKernel kernel(int rank) {
        List<Positions> sources = new ArrayList<>();
        for (int source = 0; source < worldSize(); source++) {
            sources.add(keys.positions(source));
        }
        return new StepKernel(shape, options.scaleFor(shape), options, mask, queries.positions(rank), sources);
    }

    /** Returns whether any query sees any key. O(documents) leaps: past the queries that the next key lies beyond, then past the keys behind them. */
    private boolean anyVisible(Positions q, Positions k) {
        long i = 0;
        while (i < q.length()) {
            long query = q.position(i);
            long next = k.lowerBound(mask.lo(query));
            if (next == k.length()) {
                return false; // the ends never decrease: later queries see nothing either
            }
            long key = k.position(next);
            if (key < mask.hi(query)) {
                return true;
            }
            i = firstReaching(q, i + 1, key);
        }
        return false;
    }

    /** Returns the local index, {@code from} or above, of the first query whose interval ends beyond {@code key}; q.length() if none does. */
    private long firstReaching(Positions q, long from, long key) {
        long low = from;
        long high = q.length();
        while (low < high) {
            long middle = (low + high) >>> 1;
            if (mask.hi(q.position(middle)) <= key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    /** Returns the shape. */
    public AttentionShape shape() {
        return shape;
    }

    /** Returns the layout of the queries. */
    public Layout queries() {
        return queries;
    }

    /** Returns the layout of the keys and values. */
    public Layout keys() {
        return keys;
    }

    /** Returns the mask. */
    public Mask mask() {
        return mask;
    }

    /** Returns the options. */
    public AttentionOptions options() {
        return options;
    }

    /** Returns the number of ranks. */
    public int worldSize() {
        return queries.worldSize();
    }

    /** Returns the number of ring steps, in [1, worldSize()]. */
    public int steps() {
        return steps;
    }

    /** Returns the rank whose keys {@code rank} holds in {@code step}. */
    public int source(int rank, int step) {
        checkPlace(rank, step);
        return Math.floorMod(rank - step, worldSize());
    }

    /** Returns whether {@code rank} computes in {@code step}: the mask leaves something, or it is its own first step. */
    public boolean computes(int rank, int step) {
        checkPlace(rank, step);
        return step == 0 || sees[rank][step];
    }

    private void checkPlace(int rank, int step) {
        Checks.between("rank", rank, 0, worldSize() - 1L);
        Checks.between("step", step, 0, worldSize() - 1L);
    }

    /** Returns the last step in which {@code rank} computes. */
    public int lastComputed(int rank) {
        int step = steps - 1;
        while (!computes(rank, step)) {
            step--;
        }
        return step;
    }

    /** Returns how many (query, key) pairs {@code rank} computes in {@code step}, of one head and batch row. O(length / worldSize) time. */
    public long visiblePairs(int rank, int step) {
        Positions q = queries.positions(rank);
        Positions k = keys.positions(source(rank, step));
        long pairs = 0;
        for (Positions.Range range : q.ranges()) {
            for (long i = 0; i < range.length(); i++) {
                long query = range.start() + i * range.stride();
                pairs += Math.max(0, k.lowerBound(mask.hi(query)) - k.lowerBound(mask.lo(query)));
            }
        }
        return pairs;
    }

    /** Returns the floating-point operations of {@code rank}'s forward pass: two products per visible pair. */
    public double forwardFlops(int rank) {
        double pairs = 0;
        for (int step = 0; step < steps; step++) {
            pairs += visiblePairs(rank, step);
        }
        return 2 * pairs * shape.batch() * shape.queryHeads() * (shape.headDim() + shape.valueDim());
    }

    /** Returns the bytes that {@code rank} sends in {@code step} of a forward pass: keys and values, unless it is the last step. */
    public long forwardBytesSent(int rank, int step) {
        return step + 1 < steps ? keyValueBytes(source(rank, step)) : 0;
    }

    /** Returns the bytes that {@code rank} sends in a forward pass: keys and values, once per hop. */
    public long forwardBytesSent(int rank) {
        long bytes = 0;
        for (int step = 0; step < steps; step++) {
            bytes += forwardBytesSent(rank, step);
        }
        return bytes;
    }

    /** Returns the bytes that {@code rank} sends in {@code step} of a backward pass: as in forward, and dK and dV in the wire type. */
    public long backwardBytesSent(int rank, int step) {
        return forwardBytesSent(rank, step) + (steps == 1 ? 0 : wireBytes(source(rank, step)));
    }

    /** Returns the bytes that {@code rank} sends in a backward pass: keys and values again, and dK and dV in the wire type. */
    public long backwardBytesSent(int rank) {
        long bytes = 0;
        for (int step = 0; step < steps; step++) {
            bytes += backwardBytesSent(rank, step);
        }
        return bytes;
    }

    /** Returns the bytes of all buffers of {@code rank}'s operation, workspace included; the caller's tensors are not counted. */
    public long bytesHeld(int rank) {
        return BufferPlan.of(this, rank).totalBytes();
    }

    /** Returns the bytes of kernel workspace in {@link #bytesHeld}. */
    public long workspaceBytes(int rank) {
        return Math.max(workspace[Native.FORWARD][rank], workspace[Native.BACKWARD][rank]);
    }

    /** Returns the bytes of q, k, v, output and lse of {@code rank}, and of their gradients when backward is on: the caller's. */
    public long callerBytes(int rank) {
        long perQuery = shape.queryHeads() * (shape.headDim() + shape.valueDim());
        long queryElements = shape.batch() * queries.localLength(rank) * perQuery;
        long elements = queryElements + keyElements(rank);
        long lse = shape.batch() * queries.localLength(rank) * shape.queryHeads() * shape.dtype().accumulator().bytes();
        return elements * shape.dtype().bytes() * (options.backward() ? 2 : 1) + lse;
    }

    /** Returns the type in which dK and dV travel. */
    public DType wireDType() {
        return options.wireDType() == null ? shape.dtype().accumulator() : options.wireDType();
    }

    long keyElements(int source) {
        return shape.batch() * keys.localLength(source) * shape.kvHeads() * (shape.headDim() + shape.valueDim());
    }

    /** Returns the bytes of the keys and values of rank {@code source}. */
    public long keyValueBytes(int source) {
        return keyElements(source) * shape.dtype().bytes();
    }

    /** Returns the bytes of dK and dV of rank {@code source} while they travel. */
    public long wireBytes(int source) {
        return keyElements(source) * wireDType().bytes();
    }

    /** Returns a few lines for people: the ring, and what each rank computes, sends and holds. */
    @Override
    public String toString() {
        StringBuilder text = new StringBuilder();
        text.append(shape).append(", ").append(queries).append(", ").append(mask).append(": ").append(steps).append(steps == 1 ? " step\n" : " steps\n");
        for (int rank = 0; rank < worldSize(); rank++) {
            text.append(String.format(Locale.ROOT, "rank %d: %d tokens %s, %.3g GFLOP forward, sends %,d B forward%s, holds %,d B%n", rank,
                    queries.localLength(rank), queries.positions(rank).ranges().size() > 4 ? "" : queries.positions(rank),
                    forwardFlops(rank) / 1e9, forwardBytesSent(rank),
                    options.backward() ? String.format(Locale.ROOT, " and %,d B backward", backwardBytesSent(rank)) : "", bytesHeld(rank)));
        }
        return text.toString();
    }
}
