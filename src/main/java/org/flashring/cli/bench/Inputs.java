package org.flashring.cli.bench;

import static org.bytedeco.pytorch.global.torch.manual_seed;
import static org.bytedeco.pytorch.global.torch.randn;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.AttentionShape;
import org.flashring.DType;

/** What both contenders read, from N(0, 1): dense [batch, heads, length, dim], the order that PyTorch prefers. */
record Inputs(Tensor q, Tensor k, Tensor v, Tensor dout) {
    private static final long SEED = 1;

    static Inputs draw(BenchCase bench) {
        AttentionShape shape = bench.shape();
        manual_seed(SEED);
        return new Inputs(
                draw(bench, shape.queryHeads()),
                draw(bench, shape.kvHeads()),
                draw(bench, shape.kvHeads()),
                draw(bench, shape.queryHeads()));
    }

    private static Tensor draw(BenchCase bench, long heads) {
        return randn(bench.shape().batch(), heads, bench.length(), bench.shape().headDim())
                .to(type(bench.shape().dtype()));
    }

    static ScalarType type(DType dtype) {
        return switch (dtype) {
            case FLOAT64 -> ScalarType.Double;
            case FLOAT32 -> ScalarType.Float;
            case BFLOAT16 -> ScalarType.BFloat16;
            case FLOAT16 -> ScalarType.Half;
        };
    }
}
