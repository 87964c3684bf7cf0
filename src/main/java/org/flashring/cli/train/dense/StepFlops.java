package org.flashring.cli.train.dense;

import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Mesh;
import org.flashring.plan.Ring;

/**
 * Floating-point operations of a step, over all ranks.
 *
 * @param dense of the dense layers, forward and backward: 6 for each token and each weight that it is multiplied by,
 *     which are all but the embedding's
 * @param attention of the products of attention, forward and backward, for pairs that see each other alone: backward
 *     counts twice forward, as the field counts it
 * @param computed what the step does in truth: with dense layers and attention that backward computes again, and the
 *     five products of attention's backward
 */
public record StepFlops(double dense, double attention, double computed) {
    private static final double BACKWARD_PRODUCTS = 2.5; // of forward's two

    /** Returns the count of a step of the settings. O(length) time. */
    public static StepFlops of(DenseSettings settings) {
        DenseModel model = settings.model();
        DenseSettings whole = new DenseSettings(
                model,
                DType.FLOAT32, // which every device serves
                Mesh.of("cp=1"),
                settings.rows(),
                Layout.Policy.CONTIGUOUS,
                settings.documents(),
                settings.window(),
                new Ring(),
                Recompute.KEEP,
                1,
                settings.tile(),
                settings.lossTile());
        double tokens = (double) settings.rows() * settings.length();
        double weights =
                new Parameters(model).elements() - (double) model.vocabulary() * model.dim(); // what is looked up
        double dense = 6 * tokens * weights;
        double forward = model.layers() * whole.attention(0).forwardFlops(0);
        double again = settings.recompute() == Recompute.NONE
                ? 0
                : 2
                        * tokens
                        * model.layers()
                        * model.dim()
                        * (model.qkvWidth() + model.queryWidth() + 2.0 * model.hidden());
        double attentions = 1 + BACKWARD_PRODUCTS + (settings.recompute() == Recompute.FULL ? 1 : 0);
        return new StepFlops(dense, 3 * forward, dense + again + attentions * forward);
    }

    /** Returns what a step is worth, however it is computed: what MFU is counted by. */
    public double model() {
        return dense + attention;
    }
}
