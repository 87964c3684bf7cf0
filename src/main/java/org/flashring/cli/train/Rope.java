package org.flashring.cli.train;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.sync.ShardedBatch;

/**
 * Rotary position embedding (Su et al. 2021) at the global positions of one rank's tokens; halves are paired, as in
 * Llama.
 */
final class Rope {
    private final Tensor cos; // [batch, local length, 1, headDim / 2]
    private final Tensor sin;

    Rope(ShardedBatch batch, int headDim, double base, ScalarType type) {
        int half = headDim / 2;
        long[] positions = batch.positions();
        double[] cosines = new double[Math.multiplyExact(positions.length, half)];
        double[] sines = new double[Math.multiplyExact(positions.length, half)];
        for (int pair = 0; pair < half; pair++) {
            double frequency = Math.pow(base, -(double) pair / half);
            for (int token = 0; token < positions.length; token++) {
                cosines[token * half + pair] = Math.cos(positions[token] * frequency);
                sines[token * half + pair] = Math.sin(positions[token] * frequency);
            }
        }
        long[] shape = {batch.batch(), batch.localLength(), 1, half};
        cos = Tensor.create(cosines, shape).to(type);
        sin = Tensor.create(sines, shape).to(type);
    }

    /** Returns [batch, local length, heads, headDim] with every pair (i, i + headDim / 2) turned by its angle. */
    Tensor turn(Tensor x) {
        long half = x.size(3) / 2;
        Tensor low = x.narrow(3, 0, half);
        Tensor high = x.narrow(3, half, half);
        return torch.cat(
                new TensorVector(low.mul(cos).sub(high.mul(sin)), high.mul(cos).add(low.mul(sin))), 3);
    }
}
