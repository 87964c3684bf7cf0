package org.flashring.cli.train.dense;

import org.flashring.cli.train.dense.Ops.Form;
import org.flashring.cli.train.dense.PhaseClock.Part;

/**
 * Forward and backward of a model on one rank, written out: dense layers a tile of tokens at a time, the loss a tile of
 * logits at a time. It allocates nothing.
 */
final class DenseStep {
    private final DenseModel model;
    private final Parameters parameters;
    private final Parameters.Offsets offsets;
    private final Recompute recompute;
    private final Ops ops;
    private final PhaseClock clock;
    private final ShardedAdamW optimizer;
    private final DenseAttention attention;
    private final OffloadedLayers offloaded; // null where all is kept on the device
    private final int slots; // of layers
    private final BatchBlock batch;
    private final long tokens;
    private final long tile;
    private final long lossTile;
    private final long losses;
    private final long angles;
    private final long x;
    private final long out;
    private final long qkv;
    private final long dout;
    private final long dqkv;
    private final long norm;
    private final long inverse;
    private final long dnorm;
    private final long residual; // the stream between attention and MLP
    private final long gateUp;
    private final long act;
    private final long dact;
    private final long logits;

    /** Makes the step of {@code tokens} tokens in the arena at {@code base}. */
    DenseStep(
            DenseSettings settings,
            Parameters parameters,
            Ops ops,
            ShardedAdamW optimizer,
            DenseAttention attention,
            OffloadedLayers offloaded,
            BatchBlock batch,
            long tokens,
            MemoryPlan memory,
            long base) {
        this.model = settings.model();
        this.parameters = parameters;
        this.offsets = parameters.offsets();
        this.recompute = settings.recompute();
        this.ops = ops;
        this.clock = ops.clock();
        this.optimizer = optimizer;
        this.attention = attention;
        this.offloaded = offloaded;
        this.slots = settings.slots();
        this.batch = batch;
        this.tokens = tokens;
        this.tile = settings.tile();
        this.lossTile = settings.lossTile();
        this.losses = base + memory.offset("losses");
        this.angles = base + memory.offset("angles");
        this.x = base + memory.offset("x");
        this.out = base + memory.offset("out");
        this.qkv = base + memory.offset("qkv");
        this.dout = base + memory.offset("dout");
        this.dqkv = base + memory.offset("dqkv");
        this.norm = base + memory.offset("tile: norm");
        this.inverse = base + memory.offset("tile: 1 / rms");
        this.dnorm = base + memory.offset("tile: dnorm");
        this.residual = base + memory.offset("residual");
        this.gateUp = base + memory.offset("gate, up");
        this.act = base + memory.offset("tile: act");
        this.dact = base + memory.offset("tile: dact");
        this.logits = base + memory.offset("tile: logits");
    }

    private interface Tile {
        void run(long first, long rows);
    }

    private void tiles(long size, Tile body) {
        for (long first = 0; first < tokens; first += size) {
            body.run(first, Math.min(size, tokens - first));
        }
    }

    /** Returns the address of a row of an array of {@code width} elements a row. */
    private long row(long base, long row, long width) {
        return base + row * width * ops.type().bytes();
    }

    /** Returns the address of a row of the stream that enters a layer, or with their number, leaves the last one. */
    private long x(int layer, long row) {
        long slot = layer == model.layers() ? slots : layer % slots;
        return row(x, slot * tokens + row, model.dim());
    }

    /** Returns the address of a row of the stream's gradient, which takes the place of the stream that leaves. */
    private long dx(long row) {
        return x(model.layers(), row);
    }

    /** Returns the slot of a layer's attention. */
    private int slot(int layer) {
        return recompute == Recompute.FULL ? 0 : layer % slots;
    }

    private long out(int layer, long row) {
        return row(out, slot(layer) * tokens + row, model.queryWidth());
    }

    /** Returns the address of a row of what is kept if nothing is computed again; else there is no more than a tile. */
    private long orTile(long base, int layer, long row, long width) {
        return recompute == Recompute.NONE ? row(base, layer % slots * tokens + row, width) : base;
    }

    private long qkv(int layer, long row) {
        long first = recompute == Recompute.NONE ? layer % slots * tokens : 0;
        return row(qkv, first + row, model.qkvWidth());
    }

    private long weight(int layer, long offset) {
        return optimizer.weight(parameters.start(parameters.groupOfLayer(layer)) + offset);
    }

    /**
     * Computes the sum of this rank's losses and the gradients of the loss, summed over ranks. Collective.
     *
     * @param scale of the gradients: 1 / targets of all ranks
     */
    void run(double scale) {
        clock.enter(Part.DENSE_FORWARD);
        ops.angles(batch.positions(), angles, tokens, model.headDim(), model.ropeBase());
        ops.embed(batch.ids(), optimizer.weight(0), x(0, 0), tokens, model.dim());
        for (int layer = 0; layer < model.layers(); layer++) {
            input(layer);
            clock.enter(Part.ATTENTION_FORWARD);
            attention.forward(slot(layer));
            if (offloaded != null) {
                clock.enter(Part.OFFLOAD);
                offloaded.makeRoom(layer);
            }
            clock.enter(Part.DENSE_FORWARD);
            mlp(layer);
            if (offloaded != null) {
                offloaded.send(layer);
            }
        }
        head(scale);
        for (int layer = model.layers() - 1; layer >= 0; layer--) {
            optimizer.begin(parameters.groupOfLayer(layer));
            if (offloaded != null) {
                clock.enter(Part.OFFLOAD);
                offloaded.await(layer);
            }
            clock.enter(Part.DENSE_BACKWARD);
            if (recompute == Recompute.FULL) {
                input(layer);
                clock.enter(Part.ATTENTION_AGAIN);
                attention.forward(slot(layer));
                clock.enter(Part.DENSE_BACKWARD);
            }
            mlpBack(layer);
            if (recompute == Recompute.KEEP) {
                input(layer);
            }
            clock.enter(Part.ATTENTION_BACKWARD);
            attention.backward(slot(layer));
            clock.enter(Part.DENSE_BACKWARD);
            inputBack(layer);
            if (offloaded != null) {
                offloaded.fetch(layer);
            }
            optimizer.reduce(parameters.groupOfLayer(layer));
        }
        optimizer.begin(0);
        clock.enter(Part.DENSE_BACKWARD);
        ops.embedGrad(
                batch.ids(),
                batch.order(),
                batch.starts(),
                batch.segments(),
                dx(0),
                optimizer.gradient(0),
                model.dim());
        optimizer.reduce(0);
        optimizer.join();
    }

    private void norm(long from, long weight, long rows) {
        ops.rmsNorm(from, weight, norm, inverse, rows, model.dim(), model.epsilon());
    }

    /** Computes queries, keys and values of a layer. */
    private void input(int layer) {
        long width = model.qkvWidth();
        tiles(tile, (first, rows) -> {
            norm(x(layer, first), weight(layer, offsets.attentionNorm()), rows);
            ops.product(
                    Form.NT, rows, width, model.dim(), norm, weight(layer, offsets.qkv()), 0, qkv(layer, first), false);
            turn(qkv(layer, first), first, rows, false);
        });
    }

    /** Turns heads from row {@code first} on, which lie at {@code heads}. */
    private void turn(long heads, long first, long rows, boolean back) {
        ops.rope(
                heads,
                angles + first * model.headDim() * ops.wide().bytes(),
                rows,
                model.heads() + (long) model.kvHeads(),
                model.qkvWidth(),
                model.headDim(),
                back);
    }

    /**
     * Computes what enters the MLP, and the MLP up to its last product.
     *
     * @param kept whether products are there, of forward
     */
    private void mlpTile(int layer, long first, long rows, boolean kept) {
        int dim = model.dim();
        long width = 2L * model.hidden();
        long between = orTile(residual, layer, first, dim);
        long gates = orTile(gateUp, layer, first, width);
        if (!kept) {
            ops.product(
                    Form.NT,
                    rows,
                    dim,
                    model.queryWidth(),
                    out(layer, first),
                    weight(layer, offsets.output()),
                    x(layer, first),
                    between,
                    false);
        }
        norm(between, weight(layer, offsets.mlpNorm()), rows);
        if (!kept) {
            ops.product(Form.NT, rows, width, dim, norm, weight(layer, offsets.gateUp()), 0, gates, false);
        }
        ops.swiglu(gates, act, rows, model.hidden());
    }

    private void mlp(int layer) {
        tiles(tile, (first, rows) -> {
            mlpTile(layer, first, rows, false);
            ops.product(
                    Form.NT,
                    rows,
                    model.dim(),
                    model.hidden(),
                    act,
                    weight(layer, offsets.down()),
                    orTile(residual, layer, first, model.dim()),
                    x(layer + 1, first),
                    false);
        });
    }

    /** Computes losses, and the gradient of the stream that leaves, in its place. */
    private void head(double scale) {
        int dim = model.dim();
        long vocabulary = model.vocabulary();
        int group = parameters.groupOfHead();
        long normWeight = optimizer.weight(parameters.start(group));
        long weight = optimizer.weight(parameters.start(group) + dim);
        optimizer.begin(group);
        clock.enter(Part.HEAD);
        tiles(lossTile, (first, rows) -> {
            norm(dx(first), normWeight, rows);
            ops.product(Form.NT, rows, vocabulary, dim, norm, weight, 0, logits, false);
            ops.crossEntropy(
                    logits,
                    batch.labels() + first * Long.BYTES,
                    losses + first * Double.BYTES,
                    rows,
                    vocabulary,
                    scale);
            addProduct(vocabulary, dim, rows, logits, norm, dim);
            ops.product(Form.NN, rows, dim, vocabulary, logits, weight, 0, dnorm, false);
            ops.rmsNormGrad(dnorm, dx(first), normWeight, inverse, 0, dx(first), optimizer.gradient(0), rows, dim);
        });
        ops.sum(losses, tokens, optimizer.lossFigure());
        optimizer.reduce(group);
    }

    /** Adds aᵀ b over a tile's rows to the gradient of the weight at {@code offset} of the group at hand. */
    private void addProduct(long m, long n, long rows, long a, long b, long offset) {
        long gradient = optimizer.gradient(offset);
        ops.product(Form.TN, m, n, rows, a, b, gradient, gradient, true);
    }

    /** Computes the gradient of attention's output, and adds the MLP's part to that of the stream. */
    private void mlpBack(int layer) {
        int dim = model.dim();
        int hidden = model.hidden();
        long width = model.queryWidth();
        tiles(tile, (first, rows) -> {
            mlpTile(layer, first, rows, recompute == Recompute.NONE);
            long gates = orTile(gateUp, layer, first, 2L * hidden);
            addProduct(dim, hidden, rows, dx(first), act, offsets.down());
            ops.product(Form.NN, rows, hidden, dim, dx(first), weight(layer, offsets.down()), 0, dact, false);
            ops.swigluGrad(gates, dact, rows, hidden);
            addProduct(2L * hidden, dim, rows, gates, norm, offsets.gateUp());
            ops.product(Form.NN, rows, dim, 2L * hidden, gates, weight(layer, offsets.gateUp()), 0, dnorm, false);
            normBack(
                    orTile(residual, layer, first, dim),
                    weight(layer, offsets.mlpNorm()),
                    first,
                    rows,
                    offsets.mlpNorm());
            addProduct(dim, width, rows, dx(first), out(layer, first), offsets.output());
            ops.product(
                    Form.NN,
                    rows,
                    width,
                    dim,
                    dx(first),
                    weight(layer, offsets.output()),
                    0,
                    row(dout, first, width),
                    false);
        });
    }

    /** Adds the gradient of a norm's input to that of the stream. */
    private void normBack(long input, long weight, long first, long rows, long offset) {
        ops.rmsNormGrad(
                dnorm, input, weight, inverse, dx(first), dx(first), optimizer.gradient(offset), rows, model.dim());
    }

    private void inputBack(int layer) {
        int dim = model.dim();
        long width = model.qkvWidth();
        tiles(tile, (first, rows) -> {
            turn(row(dqkv, first, width), first, rows, true);
            norm(x(layer, first), weight(layer, offsets.attentionNorm()), rows);
            addProduct(width, dim, rows, row(dqkv, first, width), norm, offsets.qkv());
            ops.product(
                    Form.NN, rows, dim, width, row(dqkv, first, width), weight(layer, offsets.qkv()), 0, dnorm, false);
            normBack(x(layer, first), weight(layer, offsets.attentionNorm()), first, rows, offsets.attentionNorm());
        });
    }
}
