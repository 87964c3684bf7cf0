package org.flashring.pytorch;

import java.util.concurrent.TimeUnit;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.attention.Backward;
import org.flashring.attention.FlashAttention;
import org.flashring.attention.Forward;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/** Host time of the adapter's calls, of an attention with next to nothing to compute, and what stands beside it. */
@State(Scope.Thread)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 2)
@Measurement(iterations = 5, time = 2)
@Fork(1)
@SuppressWarnings("try") // scopes work by being open
public class CallBench {
    private static final long[] SHAPE = {1, 2, 4, 8};

    private final Mask mask = Mask.causal();
    private final BoolOptional unsaid = new BoolOptional();
    private Tensor plain;
    private Tensor q;
    private Tensor k;
    private Tensor v;
    private TensorVector inputs;
    private TensorVector douts;
    private FlashAttention library;
    private Forward forward;
    private Backward backward;

    @Setup
    public void draw() {
        torch.set_num_threads(1);
        plain = torch.randn(SHAPE);
        q = torch.randn(SHAPE).requires_grad_(true);
        k = torch.randn(SHAPE).requires_grad_(true);
        v = torch.randn(SHAPE).requires_grad_(true);
        inputs = new TensorVector(q, k, v);
        douts = new TensorVector(plain);
        library = new FlashAttention(AttentionShape.of(1, 2, 2, 8, DType.FLOAT32), 4, mask);
        forward = AttentionNode.operands(q, k, v, null, torch.empty(SHAPE), torch.empty(1, 2, 4));
        backward = new Backward(
                forward,
                TorchTensors.bhsd("dout", plain),
                TorchTensors.bhsd("dq", torch.empty(SHAPE)),
                TorchTensors.bhsd("dk", torch.empty(SHAPE)),
                TorchTensors.bhsd("dv", torch.empty(SHAPE)));
    }

    @Benchmark
    public void libraryForward() {
        library.forward(forward, 0);
    }

    @Benchmark
    public void libraryStep() {
        library.forward(forward, 0);
        library.backward(backward, 0);
    }

    @Benchmark
    public void adapterInference() {
        try (PointerScope scope = new PointerScope()) {
            TorchAttention.scaledDotProductAttention(plain, plain, plain, mask);
        }
    }

    @Benchmark
    public void adapterForward() {
        try (PointerScope scope = new PointerScope()) {
            TorchAttention.scaledDotProductAttention(q, k, v, mask);
        }
    }

    @Benchmark
    public void adapterStep() {
        try (PointerScope scope = new PointerScope()) {
            differentiate(TorchAttention.scaledDotProductAttention(q, k, v, mask));
        }
    }

    /** What a new tensor costs in this binding. */
    @Benchmark
    public void floorNewTensor() {
        try (PointerScope scope = new PointerScope()) {
            torch.empty(SHAPE);
        }
    }

    /** What the smallest nodes of three inputs cost, which PyTorch alone makes and differentiates. */
    @Benchmark
    public void floorStep() {
        try (PointerScope scope = new PointerScope()) {
            differentiate(q.add(k).add(v));
        }
    }

    @Benchmark
    public void torchInference() {
        try (PointerScope scope = new PointerScope()) {
            attend(plain, plain, plain);
        }
    }

    @Benchmark
    public void torchStep() {
        try (PointerScope scope = new PointerScope()) {
            differentiate(attend(q, k, v));
        }
    }

    private static Tensor attend(Tensor q, Tensor k, Tensor v) {
        return torch.scaled_dot_product_attention(q, k, v, new TensorOptional(), 0, true, new DoubleOptional(), false);
    }

    private void differentiate(Tensor out) {
        torch.grad(new TensorVector(out), inputs, douts, unsaid, false, false);
    }
}
