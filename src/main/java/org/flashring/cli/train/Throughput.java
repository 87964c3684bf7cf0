package org.flashring.cli.train;

import java.util.Locale;
import java.util.Map;
import org.flashring.DType;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.train.dense.StepFlops;

/**
 * What a step's seconds come to.
 *
 * @param tokens of a step, over all ranks
 * @param flops of a step, over all ranks
 * @param ranks that share them
 * @param peak FLOP/s that a rank's device could do; null if nobody knows
 */
record Throughput(double tokens, StepFlops flops, int ranks, Double peak) {
    /** Dense tensor-core rates of bfloat16, by what CUDA calls the device, from NVIDIA's data sheets. */
    private static final Map<String, Double> BFLOAT16 = Map.of(
            "NVIDIA H200", 989e12,
            "NVIDIA H200 NVL", 835e12,
            "NVIDIA H100 80GB HBM3", 989e12,
            "NVIDIA H100 NVL", 835e12,
            "NVIDIA H100 PCIe", 756e12);

    /** Returns what a device could do in a type at most; null if that is not known. */
    static Double peakOf(String device, DType type) {
        return type == DType.BFLOAT16 ? BFLOAT16.get(device) : null;
    }

    double tokensPerSecond(double seconds) {
        return tokens / seconds;
    }

    /** Returns the share of the peak that the model's own operations come to; null without a peak. */
    Double mfu(double seconds) {
        return peak == null ? null : flops.model() / seconds / (ranks * peak);
    }

    /** Returns it for people, in one line. */
    String line(double seconds) {
        Double mfu = mfu(seconds);
        return String.format(
                Locale.ROOT,
                "%,.0f tokens/s, %s/s%s",
                tokensPerSecond(seconds),
                Quantity.flops(flops.model() / seconds),
                mfu == null ? "" : String.format(Locale.ROOT, ", MFU %.1f %%", 100 * mfu));
    }
}
