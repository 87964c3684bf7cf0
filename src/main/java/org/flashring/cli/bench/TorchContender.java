package org.flashring.cli.bench;

import static org.bytedeco.pytorch.global.torch.grad;
import static org.bytedeco.pytorch.global.torch.scaled_dot_product_attention;

import java.util.List;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;

/** PyTorch's scaled_dot_product_attention and its autograd. */
final class TorchContender implements Contender {
    private final BenchCase bench;
    private final Inputs inputs;
    private final Tensor[] leaves;
    private Tensor output;
    private Tensor tracked;
    private TensorVector gradients;

    TorchContender(BenchCase bench, Inputs inputs) {
        this.bench = bench;
        this.inputs = inputs;
        this.leaves = new Tensor[] {
            inputs.q().detach().requires_grad_(true),
            inputs.k().detach().requires_grad_(true),
            inputs.v().detach().requires_grad_(true)
        };
    }

    @Override
    @SuppressWarnings("try") // the guard acts by being there
    public void forward() {
        free(output);
        try (NoGradGuard guard = new NoGradGuard()) {
            output = attend();
        }
    }

    @Override
    public void prepareBackward() {
        free(tracked);
        tracked = attend();
    }

    @Override
    public void backward() {
        free(gradients);
        gradients = grad(
                new TensorVector(tracked),
                new TensorVector(leaves),
                new TensorVector(inputs.dout()),
                new BoolOptional(),
                false,
                false);
    }

    private Tensor attend() {
        boolean grouped = bench.shape().kvHeads() != bench.shape().queryHeads();
        return scaled_dot_product_attention(
                leaves[0],
                leaves[1],
                leaves[2],
                new TensorOptional(),
                0,
                bench.causal(),
                new DoubleOptional(),
                grouped);
    }

    private static void free(org.bytedeco.javacpp.Pointer previous) {
        if (previous != null) {
            previous.close();
        }
    }

    @Override
    public Tensor output() {
        return output;
    }

    @Override
    public List<Tensor> gradients() {
        return List.of(gradients.get(0), gradients.get(1), gradients.get(2));
    }
}
