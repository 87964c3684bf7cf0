package org.flashring.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.nn.AbstractBlock;
import ai.djl.nn.core.Linear;
import ai.djl.training.ParameterStore;
import ai.djl.util.PairList;
import org.flashring.Mask;

/**
 * Self-attention of several heads with its projections, as a block: [batch, length, size] in and out. It stands in
 * place of DJL's {@code ScaledDotProductAttentionBlock}, in O(length) memory.
 *
 * <pre>{@code
 * Block block = FlashAttentionBlock.builder().setSize(512).setHeads(8).optMask(Mask.causal()).build();
 * }</pre>
 */
public final class FlashAttentionBlock extends AbstractBlock {
    private static final byte VERSION = 1;

    private static final int UNSET = -1;

    private final long size;
    private final int heads;
    private final int kvHeads;
    private final Attention attention;
    private final Linear queries;
    private final Linear keys;
    private final Linear values;
    private final Linear result;

    /** What computes attention of [batch, heads, length, dim] arrays, such as {@code ShardedDjlAttention::forward}. */
    @FunctionalInterface
    public interface Attention {
        /** Returns attention of {@code q}, [batch, heads, length, dim], over {@code k} and {@code v}. */
        NDArray attend(NDArray q, NDArray k, NDArray v);
    }

    private FlashAttentionBlock(Builder builder) {
        super(VERSION);
        this.heads = builder.heads;
        this.size = builder.size;
        this.kvHeads = builder.kvHeads == UNSET ? builder.heads : builder.kvHeads;
        this.attention = builder.attention;
        if (builder.size < 1 || heads < 1 || builder.size % heads != 0) {
            throw new IllegalArgumentException("size is " + builder.size
                    + ", but must be a multiple of heads, which is " + heads + ", and both at least 1");
        }
        if (kvHeads < 1 || heads % kvHeads != 0) {
            throw new IllegalArgumentException("kvHeads is " + kvHeads + ", but must divide heads = " + heads);
        }
        long dim = builder.size / heads;
        queries = projection("queries", builder.size, builder.bias);
        keys = projection("keys", kvHeads * dim, builder.bias);
        values = projection("values", kvHeads * dim, builder.bias);
        result = projection("result", builder.size, builder.bias);
    }

    private Linear projection(String name, long units, boolean bias) {
        return addChildBlock(
                name, Linear.builder().setUnits(units).optBias(bias).build());
    }

    /** Returns a builder of a block. */
    public static Builder builder() {
        return new Builder();
    }

    @Override
    protected NDList forwardInternal(
            ParameterStore store, NDList inputs, boolean training, PairList<String, Object> parameters) {
        NDArray x = inputs.singletonOrThrow();
        requireTokens(x.getShape());
        NDArray out = attention.attend(
                project(queries, heads, x, store, training),
                project(keys, kvHeads, x, store, training),
                project(values, kvHeads, x, store, training));
        NDArray joined = out.swapAxes(1, 2).reshape(x.getShape());
        return result.forward(store, new NDList(joined), training);
    }

    private void requireTokens(Shape shape) {
        if (shape.dimension() != 3 || shape.get(2) != size) {
            throw new IllegalArgumentException("x is " + shape + ", but must be [batch, length, size = " + size + "]");
        }
    }

    private static NDArray project(Linear linear, int heads, NDArray x, ParameterStore store, boolean training) {
        NDArray rows = linear.forward(store, new NDList(x), training).singletonOrThrow();
        Shape shape = rows.getShape();
        return rows.reshape(shape.get(0), shape.get(1), heads, shape.get(2) / heads)
                .swapAxes(1, 2);
    }

    @Override
    public Shape[] getOutputShapes(Shape[] inputShapes) {
        return inputShapes.clone();
    }

    @Override
    protected void initializeChildBlocks(NDManager manager, DataType dataType, Shape... inputShapes) {
        requireTokens(inputShapes[0]);
        queries.initialize(manager, dataType, inputShapes);
        keys.initialize(manager, dataType, inputShapes);
        values.initialize(manager, dataType, inputShapes);
        result.initialize(manager, dataType, inputShapes);
    }

    /** What a block is made of. */
    public static final class Builder {
        private long size;
        private int heads;
        private int kvHeads = UNSET;
        private boolean bias = true;
        private Attention attention = (q, k, v) -> DjlAttention.scaledDotProductAttention(q, k, v, Mask.full());

        private Builder() {}

        /** Sets the size of a token's vector, which is that of all query heads together. */
        public Builder setSize(long size) {
            this.size = size;
            return this;
        }

        /** Sets the number of query heads. */
        public Builder setHeads(int heads) {
            this.heads = heads;
            return this;
        }

        /**
         * Sets the number of key and value heads, of which each serves several query heads; that of those otherwise.
         */
        public Builder optKvHeads(int kvHeads) {
            this.kvHeads = kvHeads;
            return this;
        }

        /** Sets whether projections have biases, as they have otherwise. */
        public Builder optBias(boolean bias) {
            this.bias = bias;
            return this;
        }

        /** Sets which keys each query sees; all otherwise. */
        public Builder optMask(Mask mask) {
            if (mask == null) {
                throw new IllegalArgumentException("mask is null");
            }
            return optAttention((q, k, v) -> DjlAttention.scaledDotProductAttention(q, k, v, mask));
        }

        /** Sets what computes attention, in place of {@link DjlAttention} with a mask. */
        public Builder optAttention(Attention attention) {
            if (attention == null) {
                throw new IllegalArgumentException("attention is null");
            }
            this.attention = attention;
            return this;
        }

        /**
         * Returns the block.
         *
         * @throws IllegalArgumentException if the size is not a multiple of the heads, or these are not one of the key
         *     heads
         */
        public FlashAttentionBlock build() {
            return new FlashAttentionBlock(this);
        }
    }
}
