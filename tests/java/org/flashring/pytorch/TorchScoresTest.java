package org.flashring.pytorch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.bytedeco.pytorch.global.torch.ScalarType.Double;

import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.Mask;
import org.flashring.Score;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Softcap, ALiBi and sinks through the adapter, against the same scores composed of PyTorch's operators in float64. */
class TorchScoresTest {
    private static final double[] SLOPES = {0.5, 0.25, 0.125, 0.0625};
    private static final int HEADS = SLOPES.length;
    private static final int LENGTH = 13;
    private static final int DIM = 8;

    @RegisterExtension
    final TorchScope scope = new TorchScope();

    private static Tensor leaf(int seed, ScalarType type, long... shape) {
        return Torch.random(seed, type, shape).mul(new Scalar(3.0)).requires_grad_(true);
    }

    /** Returns causal attention of tensors of float64, with the sinks as one more column of scores. */
    private static Tensor composed(Tensor q, Tensor k, Tensor v, Score score, Tensor sinks) {
        Tensor scores = torch.matmul(q, k.transpose(2, 3)).mul(new Scalar(1 / Math.sqrt(DIM)));
        if (score.softcap() > 0) {
            scores = scores.div(new Scalar(score.softcap())).tanh().mul(new Scalar(score.softcap()));
        }
        double[] bias = new double[HEADS * LENGTH * LENGTH];
        for (int i = 0; i < bias.length; i++) {
            int distance = i / LENGTH % LENGTH - i % LENGTH;
            double slope =
                    score.alibiSlopes().isEmpty() ? 0 : score.alibiSlopes().get(i / (LENGTH * LENGTH));
            bias[i] = distance < 0 ? java.lang.Double.NEGATIVE_INFINITY : -slope * distance;
        }
        scores = scores.add(Tensor.create(bias, 1, HEADS, LENGTH, LENGTH));
        if (sinks != null) {
            Tensor column = sinks.view(1, HEADS, 1, 1).expand(q.size(0), HEADS, LENGTH, 1);
            scores = torch.cat(new TensorVector(scores, column), 3);
        }
        return torch.matmul(torch.softmax(scores, 3).narrow(3, 0, LENGTH), v);
    }

    @ParameterizedTest
    @CsvSource({
        "Double, 2.5, false, false",
        "Double, 0, true, false",
        "Double, 0, false, true",
        "Double, 2.5, true, true",
        "Float, 2.5, true, true",
        "BFloat16, 0, false, true"
    })
    void scoresEqualThoseOfPyTorchsOperators(ScalarType type, double softcap, boolean alibi, boolean sunk) {
        Score score = Score.standard().withSoftcap(softcap);
        score = alibi ? score.withAlibi(SLOPES) : score;
        score = sunk ? score.withSinks() : score;
        Tensor[] inputs = {
            leaf(1, type, 2, HEADS, LENGTH, DIM),
            leaf(2, type, 2, HEADS, LENGTH, DIM),
            leaf(3, type, 2, HEADS, LENGTH, DIM)
        };
        Tensor sinks = sunk ? leaf(4, type == Double ? Double : ScalarType.Float, HEADS) : null;
        Tensor dout = Torch.random(5, type, 2, HEADS, LENGTH, DIM);
        Tensor out =
                TorchAttention.scaledDotProductAttention(inputs[0], inputs[1], inputs[2], Mask.causal(), score, sinks);
        out.mul(dout).sum().backward();
        Tensor[] exact = {Torch.exact(inputs[0]), Torch.exact(inputs[1]), Torch.exact(inputs[2])};
        Tensor exactSinks = sunk ? Torch.exact(sinks) : null;
        Tensor expected = composed(exact[0], exact[1], exact[2], score, exactSinks);
        expected.mul(dout.to(Double)).sum().backward();
        double tolerance = 4 * Torch.tolerance(type);
        Torch.assertClose("out", out, expected, tolerance);
        for (int i = 0; i < exact.length; i++) {
            Torch.assertClose("gradient of " + "qkv".charAt(i), inputs[i].grad(), exact[i].grad(), tolerance);
        }
        if (sunk) {
            Torch.assertClose("gradient of sinks", sinks.grad(), exactSinks.grad(), tolerance);
        }
    }

    @Test
    void sinksAloneMayRequireAGradient() {
        Tensor q = Torch.random(1, Double, 1, HEADS, LENGTH, DIM);
        Tensor sinks = leaf(4, Double, HEADS);
        TorchAttention.scaledDotProductAttention(
                        q, q, q, Mask.causal(), Score.standard().withSinks(), sinks)
                .sum()
                .backward();
        Tensor exact = Torch.exact(sinks);
        composed(q, q, q, Score.standard(), exact).sum().backward();
        Torch.assertClose("gradient of sinks", sinks.grad(), exact.grad(), 1e-12);
        assertThat(q.grad().defined()).isFalse();
    }

    @Test
    void ofAnEmptyBatchTheSinksGradientIsZero() {
        Tensor q = torch.empty(new long[] {0, HEADS, LENGTH, DIM}).to(Double);
        Tensor sinks = leaf(4, Double, HEADS);
        TorchAttention.scaledDotProductAttention(
                        q, q, q, Mask.causal(), Score.standard().withSinks(), sinks)
                .sum()
                .backward();
        assertThat(sinks.grad().abs().sum().item_double()).isZero();
    }

    @Test
    void sinksThatDoNotFitAreRefusedByName() {
        Tensor q = Torch.random(1, Double, 1, HEADS, LENGTH, DIM);
        Tensor sinks = Torch.random(4, Double, HEADS);
        Score sunk = Score.standard().withSinks();
        assertThatThrownBy(() -> TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal(), sunk))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith("sinks is null");
        assertThatThrownBy(
                        () -> TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal(), Score.standard(), sinks))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith("sinks");
        for (Tensor wrong : new Tensor[] {sinks.narrow(0, 0, 2), sinks.to(ScalarType.Float), sinks.view(1, HEADS)}) {
            assertThatThrownBy(() -> TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal(), sunk, wrong))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageStartingWith("sinks");
        }
    }

    @Test
    void sinksChangedInPlaceAreRefusedByName() {
        Tensor q = leaf(1, Double, 1, HEADS, LENGTH, DIM);
        Tensor sinks = Torch.random(4, Double, HEADS);
        Tensor out = TorchAttention.scaledDotProductAttention(
                q, q, q, Mask.causal(), Score.standard().withSinks(), sinks);
        sinks.mul_(new Scalar(2.0));
        assertThatThrownBy(() -> out.sum().backward()).hasMessageContaining("sinks has been changed in place");
    }
}
