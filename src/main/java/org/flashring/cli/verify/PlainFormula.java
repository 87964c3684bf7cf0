package org.flashring.cli.verify;

import java.util.stream.IntStream;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.Score;

/**
 * Attention as one would write it down, in the scenario's own element type: scores, probabilities, outputs and
 * gradients are each rounded to it, sums are kept in float32. Backward takes rowsum(out * dout) from the rounded
 * output, as flash attention does. Its error is the yardstick for kernels of the same type.
 */
final class PlainFormula {
    private final Scenario scenario;
    private final Inputs operands;
    private final Results results;
    private final DType dtype;
    private final Mask mask;
    private final int length;
    private final int queryHeads;
    private final int kvHeads;
    private final int headDim;
    private final int valueDim;

    private PlainFormula(Scenario scenario, Inputs operands) {
        AttentionShape shape = scenario.shape();
        this.scenario = scenario;
        this.operands = operands;
        this.results = Results.zeros(scenario);
        this.dtype = shape.dtype();
        this.mask = scenario.mask();
        this.length = scenario.length();
        this.queryHeads = (int) shape.queryHeads();
        this.kvHeads = (int) shape.kvHeads();
        this.headDim = (int) shape.headDim();
        this.valueDim = (int) shape.valueDim();
    }

    /** Returns what the formula gives. */
    static Results compute(Scenario scenario, Inputs operands) {
        PlainFormula formula = new PlainFormula(scenario, operands);
        IntStream.range(0, (int) scenario.shape().batch() * formula.kvHeads)
                .parallel()
                .forEach(i -> formula.group(i / formula.kvHeads, i % formula.kvHeads));
        return formula.results;
    }

    /** Computes the query heads of one key head. */
    private void group(int batch, int kvHead) {
        int heads = queryHeads / kvHeads;
        for (int head = kvHead * heads; head < (kvHead + 1) * heads; head++) {
            for (int query = 0; query < length; query++) {
                row(batch, query, head, kvHead);
            }
        }
        for (int key = 0; key < length; key++) {
            int row = (batch * length + key) * kvHeads + kvHead;
            round(results.dk(), row * headDim, headDim);
            round(results.dv(), row * valueDim, valueDim);
        }
    }

    private void row(int batch, int query, int head, int kvHead) {
        int row = (batch * length + query) * queryHeads + head;
        int lo = (int) Math.min(length, mask.lo(query));
        int hi = (int) Math.min(length, mask.hi(query));
        float sink = scenario.score().sinks() ? (float) operands.sinks()[head] : Float.NEGATIVE_INFINITY;
        if (lo >= hi) {
            results.lse()[row] = sink;
            return;
        }
        double[] p = new double[hi - lo];
        double[] growth = new double[hi - lo]; // of a score with its scaled product
        float max = sink;
        for (int key = lo; key < hi; key++) {
            int keyRow = (batch * length + key) * kvHeads + kvHead;
            double scaled = Rounding.round(
                    dtype,
                    scenario.scale() * dot(operands.q(), row * headDim, operands.k(), keyRow * headDim, headDim));
            growth[key - lo] = growth(scaled);
            p[key - lo] = Rounding.round(dtype, score(scaled, head, Math.abs(query - key)));
            max = Math.max(max, (float) p[key - lo]);
        }
        float sum = (float) Math.exp(sink - max);
        float sinkWeight = sum;
        for (int j = 0; j < p.length; j++) {
            p[j] = (float) Math.exp(p[j] - max);
            sum += (float) p[j];
        }
        results.lse()[row] = max + (float) Math.log(sum);
        double[] dp = new double[p.length];
        for (int j = 0; j < p.length; j++) {
            int keyRow = (batch * length + lo + j) * kvHeads + kvHead;
            p[j] = Rounding.round(dtype, p[j] / sum);
            dp[j] = Rounding.round(
                    dtype, dot(operands.dout(), row * valueDim, operands.v(), keyRow * valueDim, valueDim));
            add(results.out(), row * valueDim, p[j], operands.v(), keyRow * valueDim, valueDim);
            add(results.dv(), keyRow * valueDim, p[j], operands.dout(), row * valueDim, valueDim);
        }
        round(results.out(), row * valueDim, valueDim);
        float delta = dot(results.out(), row * valueDim, operands.dout(), row * valueDim, valueDim);
        synchronized (results) { // rows of the batch run side by side
            results.dsinks()[head] -= sinkWeight / sum * delta;
        }
        for (int j = 0; j < p.length; j++) {
            int keyRow = (batch * length + lo + j) * kvHeads + kvHead;
            double ds = Rounding.round(dtype, scenario.scale() * growth[j] * p[j] * (dp[j] - delta));
            add(results.dq(), row * headDim, ds, operands.k(), keyRow * headDim, headDim);
            add(results.dk(), keyRow * headDim, ds, operands.q(), row * headDim, headDim);
        }
        round(results.dq(), row * headDim, headDim);
    }

    private double score(double scaled, int head, int distance) {
        Score score = scenario.score();
        double bounded = score.softcap() > 0 ? score.softcap() * Math.tanh(scaled / score.softcap()) : scaled;
        return score.alibiSlopes().isEmpty()
                ? bounded
                : bounded - score.alibiSlopes().get(head) * distance;
    }

    private double growth(double scaled) {
        double softcap = scenario.score().softcap();
        return softcap > 0 ? 1 - Math.pow(Math.tanh(scaled / softcap), 2) : 1;
    }

    private static float dot(double[] a, int aStart, double[] b, int bStart, int count) {
        float sum = 0;
        for (int d = 0; d < count; d++) {
            sum += (float) (a[aStart + d] * b[bStart + d]);
        }
        return sum;
    }

    /** Adds factor * source to target, in float32. */
    private static void add(double[] target, int start, double factor, double[] source, int sourceStart, int count) {
        for (int d = 0; d < count; d++) {
            target[start + d] = (float) (target[start + d] + factor * source[sourceStart + d]);
        }
    }

    private void round(double[] values, int start, int count) {
        for (int i = start; i < start + count; i++) {
            values[i] = Rounding.round(dtype, values[i]);
        }
    }
}
