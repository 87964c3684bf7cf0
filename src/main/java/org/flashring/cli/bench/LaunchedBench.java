package org.flashring.cli.bench;

import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.flashring.AttentionOptions;
import org.flashring.Layout;
import org.flashring.attention.ShardedAttention;
import org.flashring.cli.support.Machine;
import org.flashring.cli.support.Table;
import org.flashring.comm.Communicator;
import org.flashring.kernel.TensorMath;
import org.flashring.plan.Plan;

/**
 * The ring over processes that were started together, a sequence dealt in zigzag, timed from when all have come until
 * all have finished.
 */
final class LaunchedBench {
    private static final int WARM_UP = 2;

    /** One pass of one case: milliseconds of every timed run, and their median. */
    record Line(BenchCase bench, String pass, double[] runMillis, double millis, double flops) {
        private Line(BenchCase bench, String pass, double[] runMillis, double flops) {
            this(bench, pass, runMillis, Median.of(runMillis), flops);
        }
    }

    /** What {@code --json} writes. */
    record Result(Machine machine, int processes, int threadsEach, int repeats, List<Line> lines) {}

    private LaunchedBench() {}

    /** Returns the lines of all cases, {@code repeats} runs each, and prints each as it comes. Collective. */
    static Result run(List<BenchCase> cases, int repeats, int threadsEach, Communicator ranks, PrintWriter out) {
        Machine machine = Machine.current();
        Table table = heading(out, machine, ranks.worldSize(), threadsEach);
        List<Line> lines = new ArrayList<>();
        for (BenchCase bench : cases) {
            List<Line> both = run(bench, repeats, ranks);
            both.forEach(line -> print(table, line));
            lines.addAll(both);
        }
        return new Result(machine, ranks.worldSize(), threadsEach, repeats, lines);
    }

    private static List<Line> run(BenchCase bench, int repeats, Communicator ranks) {
        Plan plan = Plan.of(
                bench.shape(),
                Layout.of(Layout.Policy.ZIGZAG, bench.length(), ranks.worldSize()),
                bench.mask(),
                AttentionOptions.defaults());
        long local = plan.queries().localLength(ranks.rank());
        try (ShardedAttention attention = new ShardedAttention(plan, ranks);
                TensorMath math = new TensorMath(ranks.device());
                Operands operands = new Operands(ranks.device(), bench.shape(), local)) {
            operands.draw(math, 1 + ranks.rank());
            double[] forward = time(ranks, repeats, () -> attention.forward(operands.forward(), 0));
            double[] backward = time(ranks, repeats, () -> attention.backward(operands.backward(), 0));
            return List.of(
                    new Line(bench, "forward", forward, bench.forwardFlops()),
                    new Line(bench, "backward", backward, bench.backwardFlops()));
        }
    }

    private static double[] time(Communicator ranks, int repeats, Runnable pass) {
        double[] millis = new double[repeats];
        for (int run = -WARM_UP; run < repeats; run++) {
            ranks.barrier();
            long start = System.nanoTime();
            pass.run();
            ranks.barrier();
            if (run >= 0) {
                millis[run] = (System.nanoTime() - start) / 1e6;
            }
        }
        return millis;
    }

    private static Table heading(PrintWriter out, Machine machine, int processes, int threadsEach) {
        out.printf(
                Locale.ROOT,
                "%s; %d processes of %d %s; medians in milliseconds%n",
                machine.processor(),
                processes,
                threadsEach,
                threadsEach == 1 ? "thread" : "threads");
        out.println(BenchCase.FLOPS);
        out.println("Each case is one sequence dealt over the processes; PyTorch, which knows one process, is not"
                + " beside it.");
        out.println();
        return new Table("Element type", "Shape", "Mask", "Pass", " Runs", " ms", " GFLOP/s")
                .live(out, 12, 22, 6, 8, 4, 10, 9);
    }

    private static void print(Table table, Line line) {
        BenchCase bench = line.bench();
        table.row(
                bench.shape().dtype().name().toLowerCase(Locale.ROOT),
                bench.label(),
                bench.causal() ? "causal" : "full",
                line.pass(),
                line.runMillis().length,
                String.format(Locale.ROOT, "%.2f", line.millis()),
                String.format(Locale.ROOT, "%.1f", line.flops() / line.millis() / 1e6));
    }
}
