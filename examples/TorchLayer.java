import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.SGD;
import org.bytedeco.pytorch.SGDOptions;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.flashring.Mask;
import org.flashring.pytorch.TorchAttention;

/** Attention in a model of PyTorch's JavaCPP preset: its backward is PyTorch's own. */
public final class TorchLayer {
    private TorchLayer() {}

    static Tensor attend(Tensor q, Tensor k, Tensor v) { // [batch, heads, length, dim], any strides
        return TorchAttention.scaledDotProductAttention(q, k, v, Mask.causal());
    }

    @SuppressWarnings("try") // a scope works by being open
    public static void main(String[] arguments) {
        try (PointerScope step = new PointerScope()) {
            Tensor q = torch.randn(1, 8, 100, 64).requires_grad_(true);
            Tensor k = torch.randn(1, 2, 100, 64).requires_grad_(true);
            Tensor v = torch.ones(1, 2, 100, 64).requires_grad_(true);
            Tensor out = attend(q, k, v);
            out.sum().backward();
            System.out.println("means of ones: " + out.mean().item_float());
            System.out.println("sum of their gradients: " + v.grad().sum().item_float());
            new SGD(new TensorVector(q, k, v), new SGDOptions(0.1)).step();
            System.out.println("mean after a step: " + v.mean().item_float());
        }
    }
}
