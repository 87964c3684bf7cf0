package org.flashring.cli.train;

import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;

/**
 * The largest differences of N ranks from one. Both see the same batch with the same parameters in every step: differences are
 * then those of the sharding alone, and do not grow with the length of the run as those of two runs apart would.
 */
final class Comparison {
    /** Largest allowed difference of a loss, in nats per byte. */
    static final double LOSS_BAR = 1e-5;
    /** Largest allowed difference of a gradient, over the largest magnitude of that parameter's gradient. */
    static final double GRADIENT_BAR = 1e-4;

    /**
     * What was found.
     *
     * @param lossDifference     largest |loss on N ranks - loss on one| of all steps
     * @param gradientDifference largest max|gN - g1| / max|g1| of all parameters and steps
     * @param parameter          where that was
     * @param step               when that was, from 1
     * @param passed             whether both are within {@link #LOSS_BAR} and {@link #GRADIENT_BAR}
     */
    record Result(double lossDifference, double lossBar, double gradientDifference, double gradientBar, String parameter, int step,
            boolean passed) {}

    private double lossDifference;
    private double gradientDifference;
    private String parameter = "none";
    private int step;

    /** Takes one step into account; NaN counts as infinitely different. */
    @SuppressWarnings("try") // a scope works by being open
    void add(int step, double loss, double lossOfOne, List<Transformer.Parameter> parameters, List<Transformer.Parameter> parametersOfOne) {
        lossDifference = Math.max(lossDifference, difference(loss - lossOfOne));
        try (PointerScope scope = new PointerScope()) {
            for (int i = 0; i < parameters.size(); i++) {
                Tensor gradient = parameters.get(i).tensor().grad();
                Tensor gradientOfOne = parametersOfOne.get(i).tensor().grad();
                double largest = gradientOfOne.abs().max().item_double();
                double apart = gradient.sub(gradientOfOne).abs().max().item_double();
                double relative = apart == 0 ? 0 : difference(apart / largest);
                if (relative > gradientDifference) {
                    gradientDifference = relative;
                    parameter = parameters.get(i).name();
                    this.step = step;
                }
            }
        }
    }

    private static double difference(double value) {
        return Double.isNaN(value) ? Double.POSITIVE_INFINITY : Math.abs(value);
    }

    Result result() {
        return new Result(lossDifference, LOSS_BAR, gradientDifference, GRADIENT_BAR, parameter, step,
                lossDifference <= LOSS_BAR && gradientDifference <= GRADIENT_BAR);
    }
}
