package org.flashring.frameworks;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.flashring.Mask;
import org.flashring.pytorch.TorchAttention;

/** Attention in PyTorch's JavaCPP preset: scaled_dot_product_attention, or the adapter in its place. */
@SuppressWarnings("try") // scopes and guards work by being open
final class TorchContestant implements Contestant {
    private final boolean causal;
    private final boolean flashring;
    private final Tensor[] inputs = new Tensor[3];
    private final Tensor dout;
    private final double[] sums = new double[4];

    TorchContestant(int length, boolean causal, boolean flashring) {
        this.causal = causal;
        this.flashring = flashring;
        for (int i = 0; i < inputs.length; i++) {
            inputs[i] = draw(i, length).requires_grad_(true);
        }
        dout = draw(inputs.length, length);
    }

    private static Tensor draw(int seed, int length) {
        float[] numbers = Numbers.draw(seed, Numbers.HEADS * length * Numbers.DIM, 1);
        return torch.tensor(numbers).view(1, Numbers.HEADS, length, Numbers.DIM);
    }

    private Tensor attend() {
        if (flashring) {
            return TorchAttention.scaledDotProductAttention(
                    inputs[0], inputs[1], inputs[2], causal ? Mask.causal() : Mask.full());
        }
        return torch.scaled_dot_product_attention(
                inputs[0], inputs[1], inputs[2], new TensorOptional(), 0, causal, new DoubleOptional(), false);
    }

    @Override
    public void forward() {
        try (PointerScope scope = new PointerScope();
                NoGradGuard guard = new NoGradGuard()) {
            attend();
        }
    }

    @Override
    public void step() {
        try (PointerScope scope = new PointerScope()) {
            Tensor out = attend();
            TensorVector gradients = torch.grad(
                    new TensorVector(out),
                    new TensorVector(inputs),
                    new TensorVector(dout),
                    new BoolOptional(),
                    false,
                    false);
            sums[0] = sample(out);
            for (int i = 0; i < inputs.length; i++) {
                sums[1 + i] = sample(gradients.get(i));
            }
        }
    }

    private static double sample(Tensor tensor) {
        return tensor.select(2, tensor.size(2) / 2).abs().sum().item_double();
    }

    @Override
    public double[] sums() {
        return sums;
    }
}
