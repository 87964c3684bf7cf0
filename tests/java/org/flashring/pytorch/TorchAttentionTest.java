package org.flashring.pytorch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import java.util.Random;
import java.util.function.UnaryOperator;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.AutoGradMode;
import org.bytedeco.pytorch.Device;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorBase;
import org.bytedeco.pytorch.TensorTensorHook;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.Mask;
import org.flashring.Score;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Attention on one device against PyTorch's own in float64, through views of all kinds and through its autograd. */
@SuppressWarnings("try") // scopes and guards work by being open
class TorchAttentionTest {
    private static final List<ScalarType> TYPES =
            List.of(ScalarType.Double, ScalarType.Float, ScalarType.BFloat16, ScalarType.Half);

    @RegisterExtension
    final TorchScope scope = new TorchScope();

    /** How [batch, heads, length, dim] lies in a larger or smaller block. */
    private enum Form {
        DENSE,
        TRANSPOSED,
        PART,
        PACKED,
        LENGTH_FIRST,
        ONE_HEAD,
        ONE_ROW,
        ONE_TOKEN;

        long[] base(long b, long h, long s, long d) {
            return switch (this) {
                case DENSE -> new long[] {b, h, s, d};
                case TRANSPOSED -> new long[] {b, s, h, d};
                case PART -> new long[] {b + 1, h + 2, s + 3, d + 5};
                case PACKED -> new long[] {b, s, 3, h, d};
                case LENGTH_FIRST -> new long[] {s, b, h, d};
                case ONE_HEAD -> new long[] {b, 1, s, d};
                case ONE_ROW -> new long[] {1, h, s, d};
                case ONE_TOKEN -> new long[] {b, h, 1, d};
            };
        }

        UnaryOperator<Tensor> view(long b, long h, long s, long d) {
            return switch (this) {
                case DENSE -> base -> base;
                case TRANSPOSED -> base -> base.transpose(1, 2);
                case PART ->
                    base -> base.narrow(0, 1, b).narrow(1, 2, h).narrow(2, 1, s).narrow(3, 4, d);
                case PACKED -> base -> base.select(2, 1).transpose(1, 2);
                case LENGTH_FIRST -> base -> base.permute(1, 2, 0, 3);
                case ONE_HEAD, ONE_ROW, ONE_TOKEN -> base -> base.expand(b, h, s, d);
            };
        }
    }

    private static <T> T any(Random random, List<T> values) {
        return values.get(random.nextInt(values.size()));
    }

    /** 200 cases: every input in a form of its own, of any type, with and without gradient, empty ones among them. */
    @Test
    void formsAndTypesEqualPyTorchs() {
        Random random = new Random(7);
        for (int i = 0; i < 200; i++) {
            try (PointerScope one = new PointerScope()) {
                compare(i, random);
            }
        }
    }

    private static void compare(int number, Random random) {
        ScalarType type = any(random, TYPES);
        long batch = number % 23 == 5 ? 0 : 1 + random.nextInt(3);
        long kvHeads = 1L + random.nextInt(3);
        long heads = kvHeads * (1 + random.nextInt(2));
        long queries = number % 29 == 3 ? 0 : 1 + random.nextInt(17);
        boolean causal = random.nextBoolean();
        long keys = random.nextBoolean() && queries > 0 ? queries : 1 + random.nextInt(17);
        long dim = 1L + random.nextInt(20);
        long valueDim = random.nextInt(4) == 0 ? 1 + random.nextInt(20) : dim;
        long[][] sizes = {{batch, heads, queries, dim}, {batch, kvHeads, keys, dim}, {batch, kvHeads, keys, valueDim}};
        Tensor[] bases = new Tensor[3];
        Tensor[] exactBases = new Tensor[3];
        Tensor[] views = new Tensor[3];
        Tensor[] exact = new Tensor[3];
        StringBuilder name = new StringBuilder("case " + number + ": " + type + (causal ? " causal" : ""));
        for (int i = 0; i < 3; i++) {
            Form form = any(random, List.of(Form.values()));
            long[] s = sizes[i];
            name.append(' ').append(form).append(java.util.Arrays.toString(s));
            bases[i] = Torch.random(100L * number + i, type, form.base(s[0], s[1], s[2], s[3]))
                    .requires_grad_(random.nextInt(5) > 0);
            exactBases[i] = Torch.exact(bases[i]);
            views[i] = form.view(s[0], s[1], s[2], s[3]).apply(bases[i]);
            exact[i] = form.view(s[0], s[1], s[2], s[3]).apply(exactBases[i]);
            if (views[i].numel() > 0) {
                assertThat(TorchTensors.bhsd("view", views[i]).address())
                        .as("%s: the memory itself", name)
                        .isEqualTo(views[i].data_ptr().address());
            }
        }
        Mask mask = causal ? Mask.causal() : Mask.full();
        Tensor out = TorchAttention.scaledDotProductAttention(views[0], views[1], views[2], mask);
        Tensor expected = Torch.attention(exact[0], exact[1], exact[2], causal);
        double tolerance = Torch.tolerance(type);
        Torch.assertClose(name + " out", out, expected.detach(), tolerance);
        assertThat(out.requires_grad()).as(name.toString()).isEqualTo(expected.requires_grad());
        if (expected.requires_grad()) {
            Tensor weights = Torch.random(number, ScalarType.Double, batch, heads, queries, valueDim);
            out.mul(weights.to(type)).sum().backward();
            expected.mul(weights.to(type).to(ScalarType.Double)).sum().backward();
            double natural = 1; // gradients that cancel are measured against those of an input of the same size
            for (int i = 0; i < 3; i++) {
                if (bases[i].requires_grad() && bases[i].numel() > 0) {
                    Tensor grad = bases[i].grad().detach().to(ScalarType.Double);
                    double apart = grad.sub(exactBases[i].grad()).abs().max().item_double();
                    double largest = exactBases[i].grad().abs().max().item_double();
                    assertThat(apart)
                            .as(name + " gradient " + i)
                            .isLessThanOrEqualTo(tolerance * Math.max(natural, largest));
                }
            }
        }
    }

    private static Tensor input(int seed, ScalarType type) {
        return Torch.random(seed, type, 2, 3, 13, 8).requires_grad_(true);
    }

    @ParameterizedTest
    @EnumSource(
            value = ScalarType.class,
            names = {"Float", "Double"})
    void layersAndUsesBesideThem(ScalarType type) {
        Tensor[] inputs = {input(1, type), input(2, type), input(3, type)};
        Tensor[] exact = {Torch.exact(inputs[0]), Torch.exact(inputs[1]), Torch.exact(inputs[2])};
        Tensor x = inputs[0];
        Tensor y = exact[0];
        for (int layer = 0; layer < 12; layer++) { // x also goes round, k and v serve all layers
            x = x.add(TorchAttention.scaledDotProductAttention(x, inputs[1], inputs[2], Mask.causal()));
            y = y.add(Torch.attention(y, exact[1], exact[2], true));
        }
        x.square().sum().backward();
        y.square().sum().backward();
        for (int i = 0; i < 3; i++) {
            Torch.assertClose("gradient " + i, inputs[i].grad(), exact[i].grad(), 5 * Torch.tolerance(type));
        }
    }

    @Test
    void scaleOfTheCaller() {
        Tensor q = input(1, ScalarType.Double);
        Tensor k = input(2, ScalarType.Double);
        Tensor v = input(3, ScalarType.Double);
        Tensor out =
                TorchAttention.scaledDotProductAttention(q, k, v, Mask.full(), Score.scaledBy(1 / Math.sqrt(8) / 3));
        Torch.assertClose(
                "out", out, Torch.attention(q.div(new Scalar(3.0)), k, v, false).detach(), 1e-12);
    }

    @Test
    void gradientsTwiceAddUp() {
        Tensor q = input(1, ScalarType.Double);
        Tensor k = input(2, ScalarType.Double);
        Tensor loss = TorchAttention.scaledDotProductAttention(q, k, k, Mask.causal())
                .square()
                .sum();
        loss.backward(
                new Tensor(),
                new org.bytedeco.pytorch.BoolOptional(true),
                false,
                new org.bytedeco.pytorch.TensorArrayRefOptional());
        Tensor once = q.grad().clone();
        loss.backward();
        Torch.assertClose("twice", q.grad(), once.mul(new Scalar(2.0)), 1e-12);
        assertThatThrownBy(loss::backward).hasMessageContaining("second time");
    }

    @Test
    void gradientOfSomeInputsAlone() {
        Tensor q = input(1, ScalarType.Double);
        Tensor k = input(2, ScalarType.Double);
        Tensor v = input(3, ScalarType.Double);
        Tensor out = TorchAttention.scaledDotProductAttention(q, k, v, Mask.causal());
        TensorVector grads = torch.grad(new TensorVector(out.sum()), new TensorVector(v));
        Tensor expected = torch.grad(
                        new TensorVector(Torch.attention(q, k, v, true).sum()), new TensorVector(v))
                .get(0);
        Torch.assertClose("dv", grads.get(0), expected, 1e-12);
        assertThat(q.grad().defined()).isFalse();
    }

    @Test
    void withoutGradientsNoGraphIsHeld() {
        Tensor q = input(1, ScalarType.Float);
        try (NoGradGuard guard = new NoGradGuard()) {
            Tensor out = TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal());
            assertThat(out.requires_grad()).isFalse();
            assertThat(AttentionNode.alive()).isZero();
        }
    }

    @Test
    void aGraphThatIsDroppedIsNotHeld() {
        Tensor q = input(1, ScalarType.Float);
        try (PointerScope step = new PointerScope()) {
            TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal());
            assertThat(AttentionNode.alive()).isEqualTo(1);
        }
        assertThat(AttentionNode.alive()).isZero();
    }

    /** A block whose inside is computed again in backward, by a backward of its own within. */
    @Test
    void checkpointedBlock() {
        Tensor q = input(1, ScalarType.Double);
        Tensor exact = Torch.exact(q);
        Tensor inside;
        try (NoGradGuard guard = new NoGradGuard()) {
            inside = block(q);
        }
        Tensor out = inside.detach().requires_grad_(true);
        TensorTensorHook again = new TensorTensorHook() {
            @Override
            public TensorBase call(TensorBase gradient) {
                try (AutoGradMode on = new AutoGradMode(true)) {
                    block(q).backward(
                                    new Tensor(gradient),
                                    new org.bytedeco.pytorch.BoolOptional(),
                                    false,
                                    new org.bytedeco.pytorch.TensorArrayRefOptional());
                }
                return new Tensor(gradient);
            }
        };
        out.register_hook(again);
        out.square().sum().backward();
        Tensor expected = Torch.attention(exact, exact, exact, true);
        Torch.attention(expected, exact, exact, true).square().sum().backward();
        Torch.assertClose("gradient", q.grad(), exact.grad(), 1e-12);
    }

    private static Tensor block(Tensor q) {
        Tensor once = TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal());
        return TorchAttention.scaledDotProductAttention(once, q, q, Mask.causal());
    }

    @Test
    void secondDerivativeIsRefusedByName() {
        Tensor q = input(1, ScalarType.Double);
        Tensor out = TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal());
        assertThatThrownBy(() -> torch.grad(
                        new TensorVector(out.sum()), new TensorVector(q), new TensorVector(), null, true, false))
                .hasMessageContaining("attention has no second derivative: call backward without create_graph");
    }

    @Test
    void inputChangedInPlaceIsRefusedByName() {
        Tensor q = input(1, ScalarType.Double);
        Tensor k = input(2, ScalarType.Double);
        Tensor out = TorchAttention.scaledDotProductAttention(q, k, k, Mask.causal());
        try (NoGradGuard guard = new NoGradGuard()) {
            k.mul_(new Scalar(2.0));
        }
        assertThatThrownBy(() -> out.sum().backward()).hasMessageContaining("k has been changed in place");
    }

    @Test
    void resultChangedInPlaceIsRefusedByName() {
        Tensor q = input(1, ScalarType.Double);
        Tensor out = TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal());
        out.mul_(new Scalar(2.0));
        assertThatThrownBy(() -> out.sum().backward()).hasMessageContaining("the result has been changed in place");
    }

    @Test
    void resultNeedsNoCopyToJoinItsHeads() {
        Tensor q = input(1, ScalarType.Float);
        Tensor out = TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal());
        assertThat(out.transpose(1, 2).flatten(2, 3).data_ptr().address())
                .isEqualTo(out.data_ptr().address());
    }

    private static void assertRefused(Tensor q, Tensor k, Tensor v, String message) {
        assertThatThrownBy(() -> TorchAttention.scaledDotProductAttention(q, k, v, Mask.causal()))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageStartingWith(message);
    }

    @Test
    void whatDoesNotFitIsRefusedByName() {
        Tensor q = input(1, ScalarType.Float);
        assertRefused(q.transpose(2, 3), q, q, "q.stride(3) is 8, but must be 1");
        assertRefused(q, q, q.select(0, 0), "v.dim() is 3, but must be 4");
        assertRefused(q, q.to(ScalarType.Double), q, "k holds FLOAT64, but must hold FLOAT32");
        assertRefused(q.to(ScalarType.Int), q, q, "q.scalar_type() is Int");
        assertRefused(q.narrow(1, 0, 0), q, q, "queryHeads is 0");
        assertRefused(q, q, q.narrow(2, 0, 5), "v.size(2) is 5, but must be k.size(2) = 13");
        assertRefused(q, q.narrow(3, 0, 5), q, "k.size(3) is 5, but must be q.size(3) = 8");
        assertRefused(q, q.narrow(0, 0, 1), q, "k.size(0) is 1, but must be q.size(0) = 2");
        assertRefused(q, q.narrow(1, 0, 2), q.narrow(1, 0, 2), "queryHeads is 3");
        assertRefused(null, q, q, "q is null");
        assertRefused(q, new Tensor(), q, "k is undefined");
    }

    /** What has no elements in memory as its strides say is refused before anything reads it. */
    @Test
    void whatHasNoMemoryOfItsOwnIsRefusedByName() {
        Tensor q = Torch.random(1, ScalarType.Float, 2, 3, 13, 8);
        assertRefused(q, q.to_sparse(), q, "k.layout() is Sparse, but must be Strided");
        assertRefused(q.to_mkldnn(), q, q, "q.layout() is Mkldnn, but must be Strided");
        assertRefused(q, q, q._neg_view(), "v.is_neg() is true, but must be false");
        assertRefused(q, torch.torch__efficientzerotensor(new long[] {2, 3, 13, 8}), q, "k.data_ptr() is null");
        Tensor meta = q.to(new Device("meta"), ScalarType.Float);
        assertRefused(meta, q, q, "q.device() is meta, but must be the host or a CUDA device");
        assertRefused(q, meta, q, "k.device() is meta, but must be the host or a CUDA device");
        assertThatThrownBy(() -> TorchTensors.bhsd("dout", meta)).hasMessageStartingWith("dout.device() is meta");
        Tensor closed = q.clone();
        closed.close();
        assertRefused(q, q, closed, "v is closed");
    }
}
