package org.flashring.frameworks;

import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.JniUtils;
import ai.djl.training.GradientCollector;
import java.util.Arrays;
import java.util.List;
import org.flashring.Mask;
import org.flashring.djl.DjlAttention;
import org.flashring.djl.ThreadGradientCollector;

/** Attention with DJL: of its operators, since it has no attention of its own, or the adapter in their place. */
final class DjlContestant implements Contestant {
    private final NDManager manager = Engine.getEngine("PyTorch").newBaseManager();
    private final boolean flashring;
    private final Mask mask;
    private final List<NDArray> inputs;
    private final NDArray dout;
    private final NDArray scale;
    private final NDArray unseen; // null where everything is seen
    private final double[] sums = new double[4];

    DjlContestant(int length, boolean causal, boolean flashring) {
        this.flashring = flashring;
        this.mask = causal ? Mask.causal() : Mask.full();
        this.inputs = List.of(draw(0, length), draw(1, length), draw(2, length));
        inputs.forEach(input -> input.setRequiresGradient(true));
        this.dout = draw(inputs.size(), length);
        this.scale = manager.create((float) (1 / Math.sqrt(Numbers.DIM)));
        this.unseen = causal && !flashring ? future(length) : null;
        JniUtils.setGradMode(false);
    }

    private NDArray draw(int seed, int length) {
        float[] numbers = Numbers.draw(seed, Numbers.HEADS * length * Numbers.DIM, 1);
        return manager.create(numbers, new Shape(1, Numbers.HEADS, length, Numbers.DIM));
    }

    private NDArray future(int length) {
        float[] values = new float[length * length];
        for (int row = 0; row < length; row++) {
            Arrays.fill(values, row * length + row + 1, (row + 1) * length, Float.NEGATIVE_INFINITY);
        }
        return manager.create(values, new Shape(length, length));
    }

    private NDArray attend(NDManager scope) {
        NDArray[] own = inputs.toArray(NDArray[]::new);
        if (flashring) {
            return DjlAttention.scaledDotProductAttention(own[0], own[1], own[2], mask);
        }
        NDArray scores = own[0].matMul(own[1].swapAxes(2, 3)).mul(scale);
        scores.attach(scope);
        return (unseen == null ? scores : scores.add(unseen)).softmax(3).matMul(own[2]);
    }

    @Override
    public void forward() {
        try (NDManager scope = manager.newSubManager()) {
            inputs.forEach(input -> input.attach(scope)); // results are on the manager of their inputs
            attend(scope);
            inputs.forEach(input -> input.attach(manager));
        }
    }

    @Override
    @SuppressWarnings("try") // the collector works by being open
    public void step() {
        try (NDManager scope = manager.newSubManager()) {
            inputs.forEach(input -> input.attach(scope));
            try (GradientCollector collector = new ThreadGradientCollector(inputs)) {
                NDArray out = attend(scope);
                JniUtils.backward((PtNDArray) out, (PtNDArray) dout, false, false);
                sums[0] = sample(out);
            }
            for (int i = 0; i < inputs.size(); i++) {
                sums[1 + i] = sample(inputs.get(i).getGradient());
            }
            inputs.forEach(input -> input.attach(manager));
        }
    }

    private static double sample(NDArray array) {
        NDArray row = array.get(":, :, " + array.getShape().get(2) / 2);
        return row.abs().sum().getFloat();
    }

    @Override
    public double[] sums() {
        return sums;
    }
}
