package org.flashring.support;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.LongOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.AttentionShape;
import org.flashring.DType;

/** PyTorch's plain attention on the CPU: scores, mask as a matrix, softmax, product, and autograd through all of it. */
public final class Oracle {
    private Oracle() {}

    /** Returns what {@code problem} is in float64. */
    public static Result float64(Problem problem) {
        return plain(problem, problem.inputs(), DType.FLOAT64);
    }

    /**
     * Returns what the plain formula gives when inputs, scores, softmax, products and gradients are all of
     * {@code dtype}.
     */
    public static Result plain(Problem problem, DType dtype) {
        return plain(problem, problem.inputs(), dtype);
    }

    /** Returns the plain formula in {@code dtype} on inputs of the caller's choice. */
    public static Result plain(Problem problem, Problem.Inputs inputs, DType dtype) {
        return plain(problem, inputs, dtype, new boolean[][][] {
            problem.mask().matrix(problem.queryLength(), problem.keyLength())
        });
    }

    /** Returns the formula in float64 where {@code sees[row][query][key]}, whatever the problem's mask is. */
    public static Result float64(Problem problem, boolean[][][] sees) {
        return plain(problem, problem.inputs(), DType.FLOAT64, sees);
    }

    private static Result plain(Problem problem, Problem.Inputs inputs, DType dtype, boolean[][][] sees) {
        AttentionShape shape = problem.shape();
        long group = shape.queryHeads() / shape.kvHeads();
        PointerScope scope = new PointerScope(); // frees every tensor made below
        try {
            Tensor q = tensor(
                            inputs.q(),
                            dtype,
                            shape.batch(),
                            problem.queryLength(),
                            shape.queryHeads(),
                            shape.headDim())
                    .set_requires_grad(true);
            Tensor k = tensor(inputs.k(), dtype, shape.batch(), problem.keyLength(), shape.kvHeads(), shape.headDim())
                    .set_requires_grad(true);
            Tensor v = tensor(inputs.v(), dtype, shape.batch(), problem.keyLength(), shape.kvHeads(), shape.valueDim())
                    .set_requires_grad(true);
            Tensor dout = tensor(
                    inputs.dout(), dtype, shape.batch(), problem.queryLength(), shape.queryHeads(), shape.valueDim());
            Tensor hidden = hidden(problem, sees);

            Tensor scores = headsFirst(q, 1)
                    .matmul(headsFirst(k, group).transpose(-2, -1))
                    .mul(new Scalar(problem.effectiveScale()));
            Tensor masked = scores.masked_fill(hidden, new Scalar(Double.NEGATIVE_INFINITY));
            Tensor weights = masked.softmax(-1)
                    .masked_fill(hidden, new Scalar(0.0)); // a query that sees nothing has NaN weights
            Tensor out = weights.matmul(headsFirst(v, group)).transpose(1, 2);
            Tensor lse = masked.logsumexp(-1).transpose(1, 2);
            out.backward(dout, new BoolOptional(), false, new TensorArrayRefOptional());
            return new Result(values(out), values(lse), values(q.grad()), values(k.grad()), values(v.grad()));
        } finally {
            scope.close();
        }
    }

    static Tensor tensor(double[] values, DType dtype, long... sizes) {
        return Tensor.create(values, sizes).to(scalarType(dtype));
    }

    private static ScalarType scalarType(DType dtype) {
        return switch (dtype) {
            case FLOAT64 -> ScalarType.Double;
            case FLOAT32 -> ScalarType.Float;
            case BFLOAT16 -> ScalarType.BFloat16;
            case FLOAT16 -> ScalarType.Half;
        };
    }

    /** Returns [batch, heads * repeats, length, dim]. */
    static Tensor headsFirst(Tensor tensor, long repeats) {
        Tensor all = repeats == 1 ? tensor : tensor.repeat_interleave(repeats, new LongOptional(2), new LongOptional());
        return all.transpose(1, 2);
    }

    /** Returns [rows, 1, queries, keys], true where the query does not see the key. */
    static Tensor hidden(Problem problem, boolean[][][] sees) {
        boolean[] hidden = new boolean[sees.length * problem.queryLength() * problem.keyLength()];
        int i = 0;
        for (boolean[][] row : sees) {
            for (boolean[] query : row) {
                for (boolean key : query) {
                    hidden[i++] = !key;
                }
            }
        }
        return Tensor.create(hidden, sees.length, 1, problem.queryLength(), problem.keyLength());
    }

    static double[] values(Tensor tensor) {
        double[] values = new double[Math.toIntExact(tensor.numel())];
        tensor.detach().to(ScalarType.Double).contiguous().data_ptr_double().get(values);
        return values;
    }
}
