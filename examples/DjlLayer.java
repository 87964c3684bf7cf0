import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import ai.djl.training.GradientCollector;
import ai.djl.training.optimizer.Optimizer;
import ai.djl.training.tracker.Tracker;
import org.flashring.Mask;
import org.flashring.djl.DjlAttention;

/** Attention in a model of DJL's PyTorch engine: its gradients are collected as any operator's. */
public final class DjlLayer {
    private DjlLayer() {}

    static NDArray attend(NDArray q, NDArray k, NDArray v) { // [batch, heads, length, dim], any strides
        return DjlAttention.scaledDotProductAttention(q, k, v, Mask.causal());
    }

    public static void main(String[] arguments) {
        Engine torch = Engine.getEngine("PyTorch");
        try (NDManager manager = torch.newBaseManager()) {
            NDArray q = manager.randomNormal(new Shape(1, 8, 100, 64));
            NDArray k = manager.randomNormal(new Shape(1, 2, 100, 64));
            NDArray v = manager.ones(new Shape(1, 2, 100, 64));
            v.setRequiresGradient(true);
            try (GradientCollector collector = torch.newGradientCollector()) {
                NDArray out = attend(q, k, v);
                collector.backward(out.sum());
                System.out.println("means of ones: " + out.mean().getFloat());
            }
            NDArray gradient = v.getGradient();
            System.out.println("sum of their gradients: " + gradient.sum().getFloat());
            Optimizer sgd =
                    Optimizer.sgd().setLearningRateTracker(Tracker.fixed(0.1f)).build();
            sgd.update("v", v, gradient);
            System.out.println("mean after a step: " + v.mean().getFloat());
        }
    }
}
