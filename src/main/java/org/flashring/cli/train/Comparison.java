package org.flashring.cli.train;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Supplier;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;

/**
 * The largest differences of N ranks from one. Both see the same batch with the same parameters in every step:
 * differences are then those of the sharding alone, and do not grow with the length of the run as those of two runs
 * apart would.
 *
 * <p>A gradient that nearly cancels, as queries' and keys' do where attention has little to gain, is mostly rounding in
 * float32, on one rank as on N. Where two differ by more than the bar, a float64 run of the same step judges how far
 * each is off. One such gradient's rounding is a handful of random numbers, so the quotient of two errors scatters
 * about 1 even where both come from the same source: it may be {@link #WORST_BAR}. The geometric mean of many does not
 * scatter: from {@link #MANY} on it may be {@link #MEAN_BAR}.
 */
final class Comparison {
    /** Largest allowed difference of a loss, in nats per byte. */
    static final double LOSS_BAR = 1e-5;
    /** Largest allowed difference of a gradient, over the largest magnitude of that parameter's gradient. */
    static final double GRADIENT_BAR = 1e-4;
    /**
     * A larger difference is rounding if the error of N ranks against float64 is at most this many times that of one
     * rank.
     */
    static final double WORST_BAR = 20;
    /** And if of many such gradients the geometric mean of that is at most this. */
    static final double MEAN_BAR = 3;
    /** Fewer gradients have no mean that says anything. */
    static final int MANY = 12;

    /**
     * What was found.
     *
     * @param lossDifference largest |loss on N ranks - loss on one| of all steps
     * @param gradientDifference largest max|gN - g1| / max|g1| of all parameters and steps
     * @param parameter where that was
     * @param step when that was, from 1
     * @param judged number of gradients that differ by more than {@link #GRADIENT_BAR}
     * @param worstRatio largest |gN - g64| / |g1 - g64|, in the 2-norm, of those; 0 if there are none
     * @param meanRatio geometric mean of the same; 0 if there are none
     * @param passed whether the loss is within {@link #LOSS_BAR}, and both ratios are within their bars
     */
    record Result(
            double lossDifference,
            double lossBar,
            double gradientDifference,
            double gradientBar,
            String parameter,
            int step,
            int judged,
            double worstRatio,
            double worstBar,
            double meanRatio,
            double meanBar,
            boolean passed) {}

    private double lossDifference;
    private double gradientDifference;
    private String parameter = "none";
    private int step;
    private int judged;
    private double worstRatio;
    private double sumOfLogs;

    /**
     * Takes one step into account; NaN counts as infinitely different.
     *
     * @param exact runs the step in float64 on one rank and returns the parameters with their gradients; asked where
     *     gradients differ by more than {@link #GRADIENT_BAR}
     */
    @SuppressWarnings("try") // a scope works by being open
    void add(
            int step,
            double loss,
            double lossOfOne,
            List<Transformer.Parameter> parameters,
            List<Transformer.Parameter> parametersOfOne,
            Supplier<List<Transformer.Parameter>> exact) {
        lossDifference = Math.max(lossDifference, difference(loss - lossOfOne));
        List<Integer> doubtful = new ArrayList<>();
        try (PointerScope scope = new PointerScope()) {
            for (int i = 0; i < parameters.size(); i++) {
                Tensor gradient = parameters.get(i).tensor().grad();
                Tensor gradientOfOne = parametersOfOne.get(i).tensor().grad();
                double largest = gradientOfOne.abs().max().item_double();
                double apart = gradient.sub(gradientOfOne).abs().max().item_double();
                double relative = apart == 0 ? 0 : difference(apart / largest);
                if (relative > GRADIENT_BAR) {
                    doubtful.add(i);
                }
                if (relative > gradientDifference) {
                    gradientDifference = relative;
                    parameter = parameters.get(i).name();
                    this.step = step;
                }
            }
        }
        if (!doubtful.isEmpty()) {
            List<Transformer.Parameter> exactParameters = exact.get();
            try (PointerScope scope = new PointerScope()) {
                for (int i : doubtful) {
                    Tensor exactGradient = exactParameters.get(i).tensor().grad();
                    double error = norm(parameters.get(i).tensor().grad().sub(exactGradient));
                    double errorOfOne =
                            norm(parametersOfOne.get(i).tensor().grad().sub(exactGradient));
                    double ratio = difference(error / errorOfOne);
                    worstRatio = Math.max(worstRatio, ratio);
                    sumOfLogs += Math.log(Math.max(ratio, 1 / WORST_BAR)); // no stroke of luck makes up for errors
                    judged++;
                }
            }
        }
    }

    private static double norm(Tensor tensor) {
        return Math.sqrt(tensor.square().sum().item_double());
    }

    private static double difference(double value) {
        return Double.isNaN(value) ? Double.POSITIVE_INFINITY : Math.abs(value);
    }

    Result result() {
        double meanRatio = judged == 0 ? 0 : Math.exp(sumOfLogs / judged);
        return new Result(
                lossDifference,
                LOSS_BAR,
                gradientDifference,
                GRADIENT_BAR,
                parameter,
                step,
                judged,
                worstRatio,
                WORST_BAR,
                meanRatio,
                MEAN_BAR,
                lossDifference <= LOSS_BAR && worstRatio <= WORST_BAR && (judged < MANY || meanRatio <= MEAN_BAR));
    }
}
