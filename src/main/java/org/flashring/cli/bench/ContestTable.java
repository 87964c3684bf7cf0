package org.flashring.cli.bench;

import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.cli.support.Machine;
import org.flashring.cli.support.Table;

/** The scores of this library and of PyTorch, printed line by line as they come. */
final class ContestTable {
    /**
     * One line; {@code torchFastPath} says whether PyTorch has instructions for the type, as {@link #fastPath} tells.
     */
    record Line(
            DType dtype,
            String shape,
            long batch,
            long heads,
            long kvHeads,
            long length,
            long dim,
            boolean causal,
            double flashRingMillis,
            double torchMillis,
            double ratio,
            boolean torchFastPath,
            Contest.Score score) {}

    private final Machine machine;
    private final Table table;
    private final List<Line> lines = new ArrayList<>();

    /** Prints what the lines are about, and their headings. */
    ContestTable(PrintWriter out, List<BenchCase> cases, Machine machine, int threads, double loadAverage) {
        this.machine = machine;
        out.printf(
                Locale.ROOT,
                "%s, %d threads; medians in milliseconds; load average before: %.1f%n",
                machine.processor(),
                threads,
                loadAverage);
        out.println(BenchCase.FLOPS);
        out.println("Difference: the largest |FlashRing - PyTorch| of output or gradients");
        if (cases.stream().anyMatch(bench -> !fastPath(machine, bench.shape().dtype(), true))) {
            out.println("Slow peer: PyTorch goes without instructions for the type, and the ratio says so more than"
                    + " anything else: bfloat16 forward");
            out.println("needs AVX512-BF16 or AMX, float16 AVX512-FP16 or AMX-FP16; this build's bfloat16 backward"
                    + " has none on any processor");
        }
        out.println();
        this.table = new Table(
                        "Element type",
                        "Shape",
                        "Mask",
                        "Pass",
                        " Runs",
                        " FlashRing ms",
                        " PyTorch ms",
                        " FlashRing GFLOP/s",
                        " PyTorch GFLOP/s",
                        " Ratio",
                        "Peer",
                        " Difference")
                .live(out, 12, 18, 6, 8, 4, 12, 10, 17, 15, 6, 4, 10);
    }

    /**
     * Returns whether PyTorch, as its Java preset builds it, multiplies in the type by instructions for it on this
     * processor.
     */
    static boolean fastPath(Machine machine, DType dtype, boolean backward) {
        return switch (dtype) {
            case FLOAT64, FLOAT32 -> true;
            case BFLOAT16 ->
                !backward
                        && (machine.features().contains("avx512_bf16")
                                || machine.features().contains("amx_bf16"));
            case FLOAT16 ->
                machine.features().contains("avx512_fp16") || machine.features().contains("amx_fp16");
        };
    }

    synchronized void add(BenchCase bench, Contest.Score score) {
        AttentionShape shape = bench.shape();
        Line line = new Line(
                shape.dtype(),
                bench.label(),
                shape.batch(),
                shape.queryHeads(),
                shape.kvHeads(),
                bench.length(),
                shape.headDim(),
                bench.causal(),
                score.flashRingMedian(),
                score.torchMedian(),
                score.ratio(),
                fastPath(machine, shape.dtype(), score.pass().equals("backward")),
                score);
        lines.add(line);
        table.row(
                line.dtype().name().toLowerCase(Locale.ROOT),
                line.shape(),
                line.causal() ? "causal" : "full",
                score.pass(),
                score.torchMillis().length,
                format("%.2f", line.flashRingMillis()),
                format("%.2f", line.torchMillis()),
                format("%.1f", score.flops() / line.flashRingMillis() / 1e6),
                format("%.1f", score.flops() / line.torchMillis() / 1e6),
                format("%.2f", line.ratio()),
                line.torchFastPath() ? "" : "slow",
                format("%.1e", score.largestDifference()));
    }

    /** Returns the lines so far; any thread may ask. */
    synchronized List<Line> lines() {
        return List.copyOf(lines);
    }

    private static String format(String pattern, double value) {
        return String.format(Locale.ROOT, pattern, value);
    }
}
