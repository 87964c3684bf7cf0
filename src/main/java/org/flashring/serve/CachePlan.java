package org.flashring.serve;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.Score;
import org.flashring.internal.Checks;
import org.flashring.kernel.CacheStep;

/**
 * What a {@link Cache} will hold, and what it costs, before anything is allocated.
 *
 * @param shape of each layer's attention; its batch is the number of rows, sequences that are decoded side by side
 * @param layers that share lengths and tables of pages
 * @param capacity keys that a row may come to, at most 2^31 - 1
 * @param pageSize keys of a page; 0 for rows in one piece each
 * @param pages that a rank has, of each layer, for all rows; 0 for rows in one piece
 * @param window keys that a query sees, its own included; 0 for all before it. Pages that have fallen behind the window
 *     are used anew
 * @param newTokens most new tokens a row that a step brings, such as a prompt's
 * @param ranks over which pages are dealt in turn
 * @param score how scores are made, without ALiBi
 * @param options kernel and device; what concerns backward is ignored
 * @param type what keys and values are kept as
 * @param batchInvariant whether outputs of a row have the same bits whatever other rows the batch has and however long
 *     they are, at some cost on CUDA; on the host they always have
 */
public record CachePlan(
        AttentionShape shape,
        int layers,
        long capacity,
        long pageSize,
        long pages,
        long window,
        long newTokens,
        int ranks,
        Score score,
        AttentionOptions options,
        CacheType type,
        boolean batchInvariant) {
    private static final long PACKED_ROWS = 64; // tokens times query heads of a key head that the decode kernel takes
    private static final int ALIGNMENT = 256;

    /** @throws IllegalArgumentException if an argument is null or breaks a rule */
    public CachePlan {
        Checks.notNull("shape", shape);
        Checks.between("shape.batch", shape.batch(), 1, Integer.MAX_VALUE);
        Checks.atLeast("layers", layers, 1);
        Checks.between("capacity", capacity, 1, Integer.MAX_VALUE);
        Checks.between("pageSize", pageSize, 0, Integer.MAX_VALUE);
        if (pageSize == 0) {
            Checks.equal("pages", pages, 0, "where rows lie in one piece");
            Checks.equal("ranks", ranks, 1, "where rows lie in one piece: pages are what is dealt");
        } else {
            Checks.between("pages", pages, 1, Integer.MAX_VALUE);
        }
        Checks.atLeast("ranks", ranks, 1);
        Checks.between("window", window, 0, Integer.MAX_VALUE);
        Checks.between("newTokens", newTokens, 1, capacity);
        if (pageSize > 0 && (1 + (capacity - 1) / pageSize / ranks) * pageSize > Integer.MAX_VALUE / ranks) {
            throw Checks.broken("capacity", capacity, "be below 2^31 in whole pages of " + pageSize + " of all ranks");
        }
        Checks.notNull("score", score);
        Checks.notNull("options", options);
        Checks.notNull("type", type);
        if (type != CacheType.OF_SHAPE && shape.dtype().bytes() != 2) {
            throw Checks.broken("type", type, "go with a shape of BFLOAT16 or FLOAT16, not " + shape.dtype());
        }
        if (!score.alibiSlopes().isEmpty()) {
            throw Checks.broken("score", score, "have no ALiBi, which caches do not serve");
        }
        requireCountable(shape, layers, Math.max(shape.batch() * capacity, pages * pageSize), newTokens, ranks);
    }

    /** Throws if bytes of what there is of {@code keys} keys and of new tokens, and sums of them, are beyond a long. */
    private static void requireCountable(AttentionShape shape, int layers, long keys, long newTokens, int ranks) {
        long most = 4L * Double.BYTES; // of an element, with room for the sums
        long key = Checks.product("heads", shape.kvHeads(), most * (shape.headDim() + shape.valueDim()));
        Checks.product("keys and values", Checks.product("layers", layers, keys), key);
        long token = Checks.product("heads", shape.queryHeads(), most * (shape.valueDim() + 1));
        long tokens = Checks.product("new tokens", shape.batch(), newTokens);
        Checks.product(
                "states", Checks.product("layers and ranks", layers, ranks), Checks.product("states", tokens, token));
    }

    /** Returns a plan of rows in one piece each, which take one new token a step on the host. */
    public static CachePlan contiguous(AttentionShape shape, int layers, long capacity) {
        return of(shape, layers, capacity, 0, 0);
    }

    /**
     * Returns a plan of rows in pages, as many as all rows may come to need, which take one new token a step on the
     * host.
     *
     * @throws IllegalArgumentException unless there is a page size
     */
    public static CachePlan paged(AttentionShape shape, int layers, long capacity, long pageSize) {
        Checks.atLeast("pageSize", pageSize, 1);
        Checks.between("capacity", capacity, 1, Integer.MAX_VALUE);
        long pages = Checks.product("pages", Checks.notNull("shape", shape).batch(), 1 + (capacity - 1) / pageSize);
        return of(shape, layers, capacity, pageSize, pages);
    }

    private static CachePlan of(AttentionShape shape, int layers, long capacity, long pageSize, long pages) {
        return new CachePlan(
                shape,
                layers,
                capacity,
                pageSize,
                pages,
                0,
                1,
                1,
                Score.standard(),
                AttentionOptions.defaults(),
                CacheType.OF_SHAPE,
                false);
    }

    /** Returns this plan with {@code count} pages a rank: fewer than all rows could fill, where most stay short. */
    public CachePlan withPages(long count) {
        return copy(count, window, newTokens, ranks, score, options, type, batchInvariant);
    }

    /** Returns this plan with queries that see {@code keys} keys, their own included. */
    public CachePlan withWindow(long keys) {
        return copy(pages, keys, newTokens, ranks, score, options, type, batchInvariant);
    }

    /** Returns this plan with steps of up to {@code tokens} new tokens a row. */
    public CachePlan withNewTokens(long tokens) {
        return copy(pages, window, tokens, ranks, score, options, type, batchInvariant);
    }

    /** Returns this plan with its pages dealt over {@code count} ranks, each of which has its share of them. */
    public CachePlan dealtOver(int count) {
        Checks.atLeast("ranks", count, 1);
        if (pageSize == 0) {
            throw Checks.broken("pageSize", 0, "be at least 1: pages are what is dealt");
        }
        long rows = shape.batch();
        long all = Checks.product("pages", pages, ranks);
        long longest = rows * (1 + (capacity - 1) / pageSize / count); // first pages go to first ranks
        long share = Math.min(all / count + rows, longest);
        return copy(share, window, newTokens, count, score, options, type, batchInvariant);
    }

    /** Returns this plan with scores of another kind. */
    public CachePlan with(Score newScore) {
        return copy(pages, window, newTokens, ranks, newScore, options, type, batchInvariant);
    }

    /** Returns this plan with other options, such as {@code AttentionOptions.defaults().onCuda()}. */
    public CachePlan with(AttentionOptions newOptions) {
        return copy(pages, window, newTokens, ranks, score, newOptions, type, batchInvariant);
    }

    /**
     * Returns this plan with keys and values kept as another type.
     *
     * @throws IllegalArgumentException if the shape's type does not go with it
     */
    public CachePlan with(CacheType newType) {
        return copy(pages, window, newTokens, ranks, score, options, newType, batchInvariant);
    }

    /**
     * Returns this plan with outputs of a row that have the same bits whatever other rows the batch has and however
     * long they are: they depend on the row's own keys and tokens, and on the length of the step's tensors, which rows
     * with fewer tokens ({@link Cache#newLengths}) share with the others. In steps of one length requests then get the
     * same text alone as among others. On CUDA short caches and rows of many lengths take longer; on the host it is
     * always so.
     */
    public CachePlan withBatchInvariance() {
        return copy(pages, window, newTokens, ranks, score, options, type, true);
    }

    private CachePlan copy(
            long newPages,
            long newWindow,
            long tokens,
            int newRanks,
            Score newScore,
            AttentionOptions newOptions,
            CacheType newType,
            boolean invariant) {
        return new CachePlan(
                shape,
                layers,
                capacity,
                pageSize,
                newPages,
                newWindow,
                tokens,
                newRanks,
                newScore,
                newOptions,
                newType,
                invariant);
    }

    /** Returns the keys of a row that a rank may come to hold: whole pages where there are pages. */
    long keysOfRow() {
        return pageSize == 0 ? capacity : Math.multiplyExact(pagesOfRow(), pageSize);
    }

    /** Returns the entries of a row in a rank's table of pages. */
    long pagesOfRow() {
        return pageSize == 0 ? 0 : 1 + ((capacity - 1) / pageSize) / ranks;
    }

    /** Returns the tokens that kernels take at a time. */
    long tokensAtOnce() {
        return Math.min(newTokens, Math.max(1, PACKED_ROWS / (shape.queryHeads() / shape.kvHeads())));
    }

    /** Returns the steps of the kernel that {@code tokens} new tokens a row take. */
    long parts(long tokens) {
        return (tokens + tokensAtOnce() - 1) / tokensAtOnce();
    }

    /** Returns the keys, whatever row they are of, that each layer has room for on a rank. */
    private long keys() {
        return pageSize == 0 ? shape.batch() * capacity : pages * pageSize;
    }

    /** Returns the bytes of a layer's keys, rounded up to where its values may begin. */
    long keyBytes() {
        return aligned(keys() * shape.kvHeads() * shape.headDim() * type.bytes(shape.dtype()));
    }

    /** Returns the bytes of a layer's values, rounded up to where the next layer may begin. */
    long valueBytes() {
        return aligned(keys() * shape.kvHeads() * shape.valueDim() * type.bytes(shape.dtype()));
    }

    /** Returns the bytes of what a rank finds over its own keys, for {@code tokens} tokens of all rows. */
    long stateBytes(long tokens) {
        long elements = shape.batch() * tokens * shape.queryHeads() * (shape.valueDim() + 1);
        return elements * shape.dtype().accumulator().bytes();
    }

    static long aligned(long bytes) {
        return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }

    CacheStep step(int rank) {
        return new CacheStep(
                shape, score, options, type.code(), batchInvariant, keysOfRow(), pageSize, pages, window, rank, ranks);
    }

    /**
     * Returns what a rank holds, in bytes, by name.
     *
     * @throws UnsupportedOperationException if no kernel serves the combination, which the message names
     */
    public Map<String, Long> bytesByName() {
        Map<String, Long> bytes = new LinkedHashMap<>();
        bytes.put("keys", layers * keyBytes());
        bytes.put("values", layers * valueBytes());
        bytes.put("lengths", shape.batch() * (2 * parts(newTokens) + 1) * Integer.BYTES);
        bytes.put("page table", shape.batch() * pagesOfRow() * Integer.BYTES);
        try (CacheStep step = step(0)) {
            step.requireSupported(tokensAtOnce());
            bytes.put("workspace", step.workspaceBytes(tokensAtOnce()));
        }
        bytes.put("states", ranks == 1 ? lseBytes() : ranks * stateBytes(tokensAtOnce()));
        return bytes;
    }

    /** Returns the bytes of an lse that the caller does not want. */
    long lseBytes() {
        return shape.batch()
                * tokensAtOnce()
                * shape.queryHeads()
                * shape.dtype().accumulator().bytes();
    }

    /** Returns what a rank holds, in bytes: keys and values, owned or the caller's, and all that goes with them. */
    public long bytesHeld() {
        return bytesByName().values().stream().mapToLong(Long::longValue).sum();
    }

    /**
     * Returns the bytes of keys and values that a rank reads, in all layers, for a step of one new token a row: at most
     * {@code tokensAtOnce} tokens read as much together.
     *
     * @param length keys that each row holds
     */
    public long bytesRead(long length) {
        Checks.between("length", length, 0, capacity);
        long seen = window == 0 ? length : Math.min(length, window);
        long ofRank = ranks == 1 ? seen : Math.min(seen, (seen / pageSize / ranks + 1) * pageSize);
        return layers
                * shape.batch()
                * ofRank
                * shape.kvHeads()
                * (shape.headDim() + shape.valueDim())
                * type.bytes(shape.dtype());
    }

    /**
     * Returns the bytes that a rank sends, in all layers, for a step of {@code tokens} new tokens a row: outputs and
     * lse. To pass its keys round instead would be (ranks - 1) times {@link #bytesRead}.
     */
    public long bytesSent(long tokens) {
        Checks.between("tokens", tokens, 1, newTokens);
        return layers * (ranks - 1L) * stateBytes(tokens);
    }

    Map<String, String> terms() {
        Map<String, String> terms = new TreeMap<>();
        terms.put("shape", shape.toString());
        terms.put("layers", String.valueOf(layers));
        terms.put("capacity", String.valueOf(capacity));
        terms.put("pages", pages + " of " + pageSize);
        terms.put("window", String.valueOf(window));
        terms.put("new tokens", String.valueOf(newTokens));
        terms.put("ranks", String.valueOf(ranks));
        terms.put("score", score.toString());
        terms.put("type", type.toString());
        terms.put("batch-invariant", String.valueOf(batchInvariant));
        return terms;
    }
}
