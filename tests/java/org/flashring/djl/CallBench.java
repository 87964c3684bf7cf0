package org.flashring.djl;

import ai.djl.engine.Engine;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import ai.djl.pytorch.engine.PtNDArray;
import ai.djl.pytorch.jni.JniUtils;
import java.util.List;
import java.util.concurrent.TimeUnit;
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
public class CallBench {
    private static final Shape SHAPE = new Shape(1, 2, 4, 8);

    private final Mask mask = Mask.causal();
    private NDManager manager;
    private NDArray dout;
    private List<NDArray> inputs;
    private FlashAttention library;
    private Forward forward;
    private Backward backward;

    @Setup
    public void draw() {
        manager = Engine.getEngine("PyTorch").newBaseManager();
        JniUtils.setNumThreads(1);
        dout = manager.randomNormal(SHAPE);
        inputs = List.of(manager.randomNormal(SHAPE), manager.randomNormal(SHAPE), manager.randomNormal(SHAPE));
        inputs.forEach(input -> input.setRequiresGradient(true));
        library = new FlashAttention(AttentionShape.of(1, 2, 2, 8, DType.FLOAT32), 4, mask);
        forward = new Forward(
                DjlTensors.bhsd("q", inputs.get(0)),
                DjlTensors.bhsd("k", inputs.get(1)),
                DjlTensors.bhsd("v", inputs.get(2)),
                DjlTensors.bhsd("out", manager.zeros(SHAPE)),
                DjlTensors.lse("lse", manager.zeros(new Shape(1, 2, 4))));
        backward = new Backward(
                forward,
                DjlTensors.bhsd("dout", dout),
                DjlTensors.bhsd("dq", manager.zeros(SHAPE)),
                DjlTensors.bhsd("dk", manager.zeros(SHAPE)),
                DjlTensors.bhsd("dv", manager.zeros(SHAPE)));
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
        JniUtils.setGradMode(false);
        attend().close();
    }

    @Benchmark
    public void adapterForward() {
        JniUtils.setGradMode(true);
        attend().close();
    }

    @Benchmark
    public void adapterStep() {
        JniUtils.setGradMode(true);
        differentiate(attend());
    }

    /** What a new array costs. */
    @Benchmark
    public void floorNewArray() {
        manager.create(SHAPE).close();
    }

    /** What the smallest nodes of three inputs cost, which PyTorch alone makes and differentiates. */
    @Benchmark
    public void floorStep() {
        JniUtils.setGradMode(true);
        NDArray part = inputs.get(0).add(inputs.get(1));
        differentiate(part.add(inputs.get(2)));
        part.close();
    }

    private NDArray attend() {
        return DjlAttention.scaledDotProductAttention(inputs.get(0), inputs.get(1), inputs.get(2), mask);
    }

    private void differentiate(NDArray out) {
        JniUtils.backward((PtNDArray) out, (PtNDArray) dout, false, false);
        out.close();
    }
}
