package org.flashring.cli.train.dense;

import java.util.Map;
import java.util.stream.LongStream;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Qkv;
import org.flashring.Tensor;
import org.flashring.Threads;
import org.flashring.cli.train.dense.Ops.Form;
import org.flashring.comm.Communicator;
import org.flashring.device.Memory;
import org.flashring.device.OwnedMemory;
import org.flashring.serve.Cache;
import org.flashring.serve.CachePlan;

/**
 * A trained model that reads tokens and says what comes next, in float64: dense layers on every rank alike, the cache
 * of keys and values dealt over ranks. One thread uses it.
 */
public final class DenseDecoder implements AutoCloseable {
    private static final int MOST_TOKENS = 256; // that dense layers take at a time

    private final TrainedModel trained;
    private final DenseModel model;
    private final Parameters.Offsets offsets;
    private final Ops ops;
    private final Owners owned;
    private final Staging staging;
    private final Cache cache;
    private final MemoryPlan memory;
    private final OwnedMemory arena;
    private final int most;
    private final double[] logits;
    private long position; // of the next token
    private Tensor q; // of as many tokens as the step before had
    private Tensor k;
    private Tensor v;
    private Tensor out;

    /**
     * Makes a decoder of a sequence. Collective.
     *
     * @param capacity tokens that the sequence may come to
     * @param pageSize tokens of a page of the cache
     * @param window tokens that a token sees, itself included; 0 for all before it
     */
    public DenseDecoder(TrainedModel trained, long capacity, long pageSize, long window, Communicator ranks) {
        this.trained = trained;
        this.model = trained.model();
        this.offsets = trained.parameters().offsets();
        this.ops = new HostOps(DType.FLOAT64, Threads.get());
        this.most = (int) Math.min(MOST_TOKENS, capacity);
        this.logits = new double[model.vocabulary()];
        this.memory = plan();
        CachePlan plan = plan(model, capacity, pageSize, window, ranks.worldSize());
        try (Owners made = new Owners()) {
            this.staging = made.add(new Staging(ops));
            this.arena = made.add(OwnedMemory.allocate(ranks.device(), memory.arena()));
            this.cache = made.add(new Cache(plan, ranks));
            this.owned = made.keep();
        }
    }

    /** Returns the plan of the cache. */
    public static CachePlan plan(DenseModel model, long capacity, long pageSize, long window, int ranks) {
        AttentionShape shape = AttentionShape.of(1, model.heads(), model.kvHeads(), model.headDim(), DType.FLOAT64);
        return CachePlan.paged(shape, model.layers(), capacity, pageSize)
                .withWindow(window)
                .withNewTokens(Math.min(MOST_TOKENS, capacity))
                .dealtOver(ranks);
    }

    private MemoryPlan plan() {
        long row = (long) most * Double.BYTES;
        return new MemoryPlan.Builder()
                .always("ids", (long) most * Long.BYTES)
                .always("positions", (long) most * Long.BYTES)
                .always("angles", row * model.headDim())
                .always("x", row * model.dim())
                .always("norm", row * model.dim())
                .always("inverse", row)
                .always("qkv", row * model.qkvWidth())
                .always("out", row * model.queryWidth())
                .always("gate, up", row * 2 * model.hidden())
                .always("act", row * model.hidden())
                .always("logits", (long) model.vocabulary() * Double.BYTES)
                .build(Map.of());
    }

    private long at(String block) {
        return arena.address() + memory.offset(block);
    }

    /** Returns the bytes of this rank, weights apart. */
    public long bytesHeld() {
        return memory.arena() + cache.plan().bytesHeld();
    }

    /**
     * Returns the logits of what follows the last one of {@code tokens}, which go behind those of earlier calls; the
     * array serves the next call again. Collective.
     *
     * @throws IllegalArgumentException if there is no token, one is none of the vocabulary, or there is no room
     */
    public double[] next(long[] tokens) {
        if (tokens.length == 0) {
            throw new IllegalArgumentException("tokens.length is 0; it must be at least 1");
        }
        for (long token : tokens) {
            if (token < 0 || token >= model.vocabulary()) {
                throw new IllegalArgumentException(
                        "token is " + token + "; it must lie in [0, " + (model.vocabulary() - 1) + "]");
            }
        }
        long capacity = cache.plan().capacity();
        if (tokens.length > capacity - position) {
            throw new IllegalArgumentException("length of the sequence is " + position + " + " + tokens.length
                    + "; it must be at most " + capacity + ", the plan's capacity");
        }
        for (int first = 0; first < tokens.length; first += most) {
            step(tokens, first, Math.min(most, tokens.length - first));
        }
        HostOps.view().load(DType.FLOAT64, at("logits"), logits, 0, logits.length);
        return logits;
    }

    private void step(long[] tokens, int first, int rows) {
        staging.putLongs(
                at("ids"),
                LongStream.range(first, first + rows).map(i -> tokens[(int) i]).toArray(),
                rows);
        long start = position;
        staging.putLongs(at("positions"), LongStream.range(start, start + rows).toArray(), rows);
        ops.angles(at("positions"), at("angles"), rows, model.headDim(), model.ropeBase());
        ops.embed(at("ids"), trained.weight(0), at("x"), rows, model.dim());
        lookAt(rows);
        for (int layer = 0; layer < model.layers(); layer++) {
            layer(layer, rows);
        }
        cache.advance();
        position += rows;
        long head = trained.parameters().start(trained.parameters().groupOfHead());
        long last = at("x") + (rows - 1L) * model.dim() * Double.BYTES;
        norm(last, trained.weight(head), 1);
        product(1, model.vocabulary(), model.dim(), at("norm"), trained.weight(head + model.dim()), 0, at("logits"));
    }

    /** Lays q, k, v and out over their places, for so many tokens. */
    private void lookAt(int rows) {
        if (q != null && q.length() == rows) {
            return;
        }
        Memory all = arena.memory();
        Memory qkv = all.slice(memory.offset("qkv"), rows * model.qkvWidth() * Double.BYTES);
        Qkv parts = Tensor.qkv(qkv, DType.FLOAT64, 1, rows, model.heads(), model.kvHeads(), model.headDim());
        q = parts.q();
        k = parts.k();
        v = parts.v();
        Memory outputs = all.slice(memory.offset("out"), rows * model.queryWidth() * Double.BYTES);
        out = Tensor.bshd(outputs, DType.FLOAT64, 1, rows, model.heads(), model.headDim());
    }

    private void layer(int layer, int rows) {
        long weights = trained.parameters().start(trained.parameters().groupOfLayer(layer));
        int dim = model.dim();
        long x = at("x");
        norm(x, trained.weight(weights + offsets.attentionNorm()), rows);
        product(rows, model.qkvWidth(), dim, at("norm"), trained.weight(weights + offsets.qkv()), 0, at("qkv"));
        long turned = model.heads() + (long) model.kvHeads();
        ops.rope(at("qkv"), at("angles"), rows, turned, model.qkvWidth(), model.headDim(), false);
        cache.append(layer, k, v);
        cache.forward(layer, q, out);
        product(rows, dim, model.queryWidth(), at("out"), trained.weight(weights + offsets.output()), x, x);
        norm(x, trained.weight(weights + offsets.mlpNorm()), rows);
        long gateUp = trained.weight(weights + offsets.gateUp());
        product(rows, 2L * model.hidden(), dim, at("norm"), gateUp, 0, at("gate, up"));
        ops.swiglu(at("gate, up"), at("act"), rows, model.hidden());
        product(rows, dim, model.hidden(), at("act"), trained.weight(weights + offsets.down()), x, x);
    }

    private void norm(long from, long weight, long rows) {
        ops.rmsNorm(from, weight, at("norm"), at("inverse"), rows, model.dim(), model.epsilon());
    }

    /** Sets d [rows, width] to a bᵀ, or to {@code plus} + a bᵀ. */
    private void product(long rows, long width, long depth, long a, long b, long plus, long d) {
        ops.product(Form.NT, rows, width, depth, a, b, plus, d, false);
    }

    @Override
    public void close() {
        owned.close();
        ops.close();
    }
}
