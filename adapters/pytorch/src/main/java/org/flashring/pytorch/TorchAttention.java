package org.flashring.pytorch;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.GradMode;
import org.bytedeco.pytorch.ScalarTypeOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.Score;
import org.flashring.attention.AttentionCalls;
import org.flashring.attention.PooledAttention;
import org.flashring.device.Device;

/**
 * Exact attention on one device in O(length) memory, in place of PyTorch's {@code scaled_dot_product_attention}.
 *
 * <pre>{@code
 * Tensor out = TorchAttention.scaledDotProductAttention(q, k, v, Mask.causal());
 * out.sum().backward();
 * }</pre>
 */
public final class TorchAttention {
    private TorchAttention() {}

    /**
     * Returns softmax(q kᵀ / sqrt(headDim) under the mask) v, [batch, queryHeads, queries, valueDim], whose memory has
     * the order batch, queries, heads: {@code out.transpose(1, 2).flatten(2, 3)} copies nothing. Where gradients are on
     * and an input requires one, the result is a node of the autograd graph.
     *
     * <p>Inputs are read where they lie, whatever their strides: transposed, a part of a larger tensor, or expanded
     * over heads or rows; nothing is copied. They are on the host or on one CUDA device, where the work goes to
     * PyTorch's current stream.
     *
     * @param q [batch, queryHeads, queries, headDim], last dimension contiguous
     * @param k [batch, kvHeads, keys, headDim]; queryHeads is a multiple of kvHeads
     * @param v [batch, kvHeads, keys, valueDim]
     * @param mask which keys each query sees; positions of queries and keys both begin at 0
     * @throws IllegalArgumentException if a tensor has another shape, type, device or stride
     * @throws UnsupportedOperationException if no kernel serves the combination; the message names it
     */
    public static Tensor scaledDotProductAttention(Tensor q, Tensor k, Tensor v, Mask mask) {
        return scaledDotProductAttention(q, k, v, mask, Score.standard());
    }

    /** Returns the same with scores of the caller's choice: another scale, a softcap, ALiBi. */
    public static Tensor scaledDotProductAttention(Tensor q, Tensor k, Tensor v, Mask mask, Score score) {
        return scaledDotProductAttention(q, k, v, mask, score, null);
    }

    /**
     * Returns the same with sinks, which may require a gradient as the other inputs may.
     *
     * @param score one {@linkplain Score#withSinks() with sinks}
     * @param sinks [queryHeads], contiguous, Double with inputs of Double, else Float; null for a score without sinks
     */
    public static Tensor scaledDotProductAttention(Tensor q, Tensor k, Tensor v, Mask mask, Score score, Tensor sinks) {
        Inputs inputs = Inputs.of(q, k, v, sinks);
        if (mask == null || score == null) {
            throw new IllegalArgumentException((mask == null ? "mask" : "score") + " is null");
        }
        boolean differentiable = inputs.requireGradient();
        AttentionCalls kernel = null;
        if (q.size(0) > 0) {
            AttentionShape shape =
                    new AttentionShape(q.size(0), q.size(1), k.size(1), q.size(3), v.size(3), inputs.dtype());
            kernel = new PooledAttention(shape, q.size(2), k.size(2), mask, score, differentiable, inputs.device());
        }
        return inputs.attend(kernel, differentiable);
    }

    /** The inputs of a call, which fit each other. */
    record Inputs(Tensor q, Tensor k, Tensor v, Tensor sinks, DType dtype, Device device) {
        static Inputs of(Tensor q, Tensor k, Tensor v, Tensor sinks) {
            requireRows("q", q);
            requireRows("k", k);
            requireRows("v", v);
            DType dtype = TorchTensors.dtype("q", q);
            Device device = TorchTensors.device("q", q);
            requireSame("k", k, dtype, device);
            requireSame("v", v, dtype, device);
            requireSize("k", k, 0, q.size(0), "q.size(0)");
            requireSize("v", v, 0, q.size(0), "q.size(0)");
            requireSize("v", v, 1, k.size(1), "k.size(1)");
            requireSize("v", v, 2, k.size(2), "k.size(2)");
            requireSize("k", k, 3, q.size(3), "q.size(3)");
            if (sinks != null) {
                TorchTensors.sinks("sinks", sinks); // the kernel's own checks look at type, size and stride
            }
            return new Inputs(q, k, v, sinks, dtype, device);
        }

        private static void requireRows(String name, Tensor tensor) {
            TorchTensors.checkRows(name, tensor);
        }

        private static void requireSame(String name, Tensor tensor, DType dtype, Device device) {
            DType own = TorchTensors.dtype(name, tensor);
            if (own != dtype) {
                throw new IllegalArgumentException(name + " holds " + own + ", but must hold " + dtype + " as q does");
            }
            Device where = TorchTensors.device(name, tensor);
            if (!where.equals(device)) {
                throw new IllegalArgumentException(
                        name + " lies on " + where + ", but must lie on " + device + " as q does");
            }
        }

        private static void requireSize(String name, Tensor tensor, int dimension, long size, String as) {
            if (tensor.size(dimension) != size) {
                throw new IllegalArgumentException(name + ".size(" + dimension + ") is " + tensor.size(dimension)
                        + ", but must be " + as + " = " + size);
            }
        }

        /** Returns whether the result is to be part of the autograd graph. */
        boolean requireGradient() {
            return GradMode.is_enabled()
                    && (q.requires_grad()
                            || k.requires_grad()
                            || v.requires_grad()
                            || sinks != null && sinks.requires_grad());
        }

        /**
         * Returns the output of {@code kernel}, attached to the graph where an input requires it.
         *
         * @param kernel null where there is no element
         * @param backward whether {@code kernel} wants a place for the lse
         */
        @SuppressWarnings("try") // a scope works by being open
        Tensor attend(AttentionCalls kernel, boolean backward) {
            long batch = q.size(0);
            long heads = q.size(1);
            long length = q.size(2);
            long dim = v.size(3);
            Tensor out = torch.empty_strided(
                    new long[] {batch, heads, length, dim},
                    new long[] {length * heads * dim, dim, heads * dim, 1},
                    q.options());
            long stream = CudaStreams.current(device);
            try (PointerScope call = new PointerScope()) { // nothing but out is the caller's
                Tensor lse = backward ? lse(out.options(), batch, heads, length) : null;
                if (requireGradient()) {
                    AttentionNode.run(kernel, new Tensor[] {q, k, v, sinks}, out, lse, stream);
                } else if (kernel != null) {
                    kernel.forward(AttentionNode.operands(q, k, v, sinks, out, lse), stream);
                }
            }
            return out;
        }

        private Tensor lse(TensorOptions options, long... shape) {
            ScalarType wide = dtype == DType.FLOAT64 ? ScalarType.Double : ScalarType.Float;
            return torch.empty(shape, options.dtype(new ScalarTypeOptional(wide)), null);
        }
    }
}
