package org.flashring.support;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorArrayRefOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Score;

/**
 * PyTorch's plain attention in float64 with the scores of a {@link Score}: a sink is one more column of the softmax,
 * and autograd goes through all of it.
 *
 * @param result what attention computes
 * @param dsinks gradient of the sinks; empty without them
 */
public record ScoreOracle(Result result, double[] dsinks) {
    /** Returns what {@code problem} is with {@code score}, whose sinks are {@code sinks}, one for each query head. */
    @SuppressWarnings("try") // the scope is only closed
    public static ScoreOracle of(Problem problem, Score score, double[] sinks) {
        AttentionShape shape = problem.shape();
        Problem.Inputs inputs = problem.inputs();
        int queries = problem.queryLength();
        int keys = problem.keyLength();
        long group = shape.queryHeads() / shape.kvHeads();
        PointerScope scope = new PointerScope(); // frees every tensor made below
        try {
            Tensor q = leaf(inputs.q(), shape.batch(), queries, shape.queryHeads(), shape.headDim());
            Tensor k = leaf(inputs.k(), shape.batch(), keys, shape.kvHeads(), shape.headDim());
            Tensor v = leaf(inputs.v(), shape.batch(), keys, shape.kvHeads(), shape.valueDim());
            Tensor dout = leaf(inputs.dout(), shape.batch(), queries, shape.queryHeads(), shape.valueDim());
            Tensor hidden =
                    Oracle.hidden(problem, new boolean[][][] {problem.mask().matrix(queries, keys)});

            Tensor scores = Oracle.headsFirst(q, 1)
                    .matmul(Oracle.headsFirst(k, group).transpose(-2, -1))
                    .mul(new Scalar(problem.effectiveScale()));
            if (score.softcap() > 0) {
                scores = scores.div(new Scalar(score.softcap())).tanh().mul(new Scalar(score.softcap()));
            }
            if (!score.alibiSlopes().isEmpty()) {
                scores = scores.sub(bias(score, queries, keys));
            }
            Tensor masked = scores.masked_fill(hidden, new Scalar(Double.NEGATIVE_INFINITY));
            Tensor sink = score.sinks() ? leaf(sinks, 1, shape.queryHeads(), 1, 1) : null;
            Tensor all = sink == null
                    ? masked
                    : torch.cat(
                            new TensorVector(masked, sink.expand(shape.batch(), shape.queryHeads(), queries, 1)), -1);
            Tensor weights = all.softmax(-1)
                    .narrow(-1, 0, keys)
                    .masked_fill(hidden, new Scalar(0.0)); // a query that sees nothing has NaN weights
            Tensor out = weights.matmul(Oracle.headsFirst(v, group)).transpose(1, 2);
            Tensor lse = all.logsumexp(-1).transpose(1, 2);
            out.backward(dout, new BoolOptional(), false, new TensorArrayRefOptional());
            Result result = new Result(
                    Oracle.values(out),
                    Oracle.values(lse),
                    Oracle.values(q.grad()),
                    Oracle.values(k.grad()),
                    Oracle.values(v.grad()));
            double[] dsinks = sink == null ? new double[0] : Oracle.values(sink.grad());
            for (int head = 0; head < dsinks.length; head++) { // softmax of nothing but -∞ makes NaN of it
                dsinks[head] = sinks[head] == Double.NEGATIVE_INFINITY ? 0 : dsinks[head];
            }
            return new ScoreOracle(result, dsinks);
        } finally {
            scope.close();
        }
    }

    private static Tensor leaf(double[] values, long... sizes) {
        return Oracle.tensor(values, DType.FLOAT64, sizes).set_requires_grad(true);
    }

    /** Returns [1, heads, queries, keys]: slope times distance. */
    private static Tensor bias(Score score, int queries, int keys) {
        int heads = score.alibiSlopes().size();
        double[] bias = new double[heads * queries * keys];
        for (int i = 0; i < bias.length; i++) {
            bias[i] = score.alibiSlopes().get(i / keys / queries) * Math.abs(i / keys % queries - i % keys);
        }
        return Tensor.create(bias, 1, heads, queries, keys);
    }
}
