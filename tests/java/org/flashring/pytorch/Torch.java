package org.flashring.pytorch;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Random;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/** PyTorch's own attention, in float64, and what compares with it. */
final class Torch {
    private Torch() {}

    /** Returns values of (-1, 1) that {@code type} can hold, the same for one seed whatever the type of others. */
    static Tensor random(long seed, ScalarType type, long... shape) {
        Random random = new Random(seed);
        long elements = 1;
        for (long size : shape) {
            elements *= size;
        }
        double[] values = random.doubles(elements, -1, 1).toArray();
        return elements == 0
                ? torch.empty(shape).to(type)
                : Tensor.create(values, shape).to(type);
    }

    /** Returns a leaf of the same values in float64. */
    static Tensor exact(Tensor tensor) {
        return tensor.detach().to(ScalarType.Double).clone().requires_grad_(tensor.requires_grad());
    }

    static Tensor attention(Tensor q, Tensor k, Tensor v, boolean causal) {
        return torch.scaled_dot_product_attention(q, k, v, new TensorOptional(), 0, causal, new DoubleOptional(), true);
    }

    /** Asserts that no element is off by more than {@code tolerance} of the largest one. */
    static void assertClose(String name, Tensor actual, Tensor expected, double tolerance) {
        assertThat(TorchTensors.shape(actual)).as(name).isEqualTo(TorchTensors.shape(expected));
        if (expected.numel() == 0) {
            return;
        }
        double largest = expected.abs().max().item_double();
        double apart =
                actual.detach().to(ScalarType.Double).sub(expected).abs().max().item_double();
        assertThat(apart).as(name).isLessThanOrEqualTo(tolerance * Math.max(largest, 1e-3));
    }

    static double tolerance(ScalarType type) {
        return switch (type) {
            case Double -> 1e-12;
            case Float -> 1e-6;
            case Half -> 4e-3;
            default -> 3e-2;
        };
    }
}
