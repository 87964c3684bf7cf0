package org.flashring.cli.bench;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.function.ToLongFunction;
import java.util.stream.IntStream;
import org.flashring.AttentionOptions;
import org.flashring.Layout;
import org.flashring.cli.support.DeviceOption;
import org.flashring.cli.support.Machine;
import org.flashring.cli.support.Paragraph;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.ResultFile;
import org.flashring.cli.support.StrategyOption;
import org.flashring.cli.support.Table;
import org.flashring.cli.support.TransportOption;
import org.flashring.comm.Communicator;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;

/** Strategies beside each other over ranks: in each run all have their turn, on the same operands. */
final class StrategyBench {
    private static final int WARM_UP = 3;

    /**
     * One pass.
     *
     * @param runs milliseconds, [rank][run]
     * @param millis median of the slowest rank
     * @param ratio milliseconds of the ring over those
     */
    record Pass(double[][] runs, double millis, double ratio) {}

    /**
     * One strategy on one case.
     *
     * @param refused why it does not serve the case; null if it does, and all else is null where it does not
     * @param forwardBytesSent bytes that a rank sends in a forward pass, of the one that sends most, as planned
     * @param backwardBytesSent likewise in a backward pass
     * @param buffers bytes that the operation holds, of the rank that has most
     * @param held the same, with the caller's tensors
     */
    record Line(
            BenchCase bench,
            Strategy strategy,
            String refused,
            Pass forward,
            Pass both,
            Long forwardBytesSent,
            Long backwardBytesSent,
            Long buffers,
            Long held) {}

    /**
     * What {@code --json} writes.
     *
     * @param transport how ranks on GPUs exchange; null on the host
     */
    record Result(Machine machine, String device, int ranks, String transport, int repeats, List<Line> lines) {}

    private final List<BenchCase> cases;
    private final StrategyOption strategies;
    private final TransportOption transport;
    private final int repeats;
    private final Path timelines;
    private final PrintWriter out;

    /** Makes it of {@code cases}; pictures go to folder {@code timelines}, null for none. */
    StrategyBench(
            List<BenchCase> cases,
            StrategyOption strategies,
            TransportOption transport,
            int repeats,
            Path timelines,
            PrintWriter out) {
        this.transport = transport;
        this.timelines = timelines;
        this.cases = cases;
        this.strategies = strategies;
        this.repeats = repeats;
        this.out = out;
    }

    /** Returns the lines of all cases, which rank 0 prints as they come. Every rank calls it. */
    Result run(Communicator ranks) {
        String device = DeviceOption.name(ranks.device());
        if (ranks.rank() == 0) {
            heading(device, ranks.worldSize(), transport.name(ranks.device()));
        }
        List<Line> lines = new ArrayList<>();
        for (BenchCase bench : cases) {
            List<Line> ofCase = run(bench, ranks);
            if (ranks.rank() == 0) {
                print(bench, ofCase, ranks);
            }
            lines.addAll(ofCase);
        }
        return new Result(Machine.current(), device, ranks.worldSize(), transport.name(ranks.device()), repeats, lines);
    }

    private List<Line> run(BenchCase bench, Communicator ranks) {
        List<Strategy> all = new ArrayList<>(strategies.strategies(ranks.worldSize(), bench.shape()));
        if (!all.contains(new Ring())) {
            all.add(0, new Ring()); // what the others are measured by
        }
        List<Plan> plans = new ArrayList<>();
        List<Line> refused = new ArrayList<>();
        for (Strategy strategy : all) {
            try {
                plans.add(plan(bench, strategy, ranks));
            } catch (IllegalArgumentException | UnsupportedOperationException e) {
                if (strategy.equals(new Ring())) {
                    throw e;
                }
                refused.add(new Line(bench, strategy, e.getMessage(), null, null, null, null, null, null));
            }
        }
        List<Line> lines = new ArrayList<>();
        try (RankBench rank = new RankBench(plans, ranks)) {
            double[][][] own = rank.time(WARM_UP, repeats);
            Pass[] ring = new Pass[2];
            for (int i = 0; i < plans.size(); i++) {
                Plan plan = plans.get(i);
                Pass[] passes = new Pass[2];
                for (int pass = 0; pass < 2; pass++) {
                    double[][] runs = rank.gather(own[i][pass]);
                    double millis =
                            Arrays.stream(runs).mapToDouble(Median::of).max().orElseThrow();
                    double ofRing = ring[pass] == null ? millis : ring[pass].millis();
                    passes[pass] = new Pass(runs, millis, ofRing / millis);
                }
                ring = i == 0 ? passes : ring;
                draw(bench, plan, timelines == null ? List.of() : fastest(rank, i));
                lines.add(new Line(
                        bench,
                        plan.strategy(),
                        null,
                        passes[RankBench.FORWARD],
                        passes[RankBench.BOTH],
                        most(plan, plan::forwardBytesSent),
                        most(plan, plan::backwardBytesSent),
                        most(plan, plan::bytesHeld),
                        most(plan, r -> plan.bytesHeld(r) + plan.callerBytes(r))));
            }
        }
        lines.addAll(refused);
        return lines;
    }

    /**
     * Returns the steps of the fastest of as many passes as are timed, the one that others on the machine disturb
     * least.
     */
    private List<Timeline.Step> fastest(RankBench rank, int plan) {
        return IntStream.range(0, repeats)
                .mapToObj(run -> rank.timeline(plan))
                .min(Comparator.comparingLong(steps ->
                        steps.stream().mapToLong(Timeline.Step::to).max().orElse(0)))
                .orElseThrow();
    }

    /** Draws the steps of all ranks, which rank 0 has. */
    private void draw(BenchCase bench, Plan plan, List<Timeline.Step> steps) {
        if (!steps.isEmpty()) {
            String sizes = bench.shape().dtype().name().toLowerCase(Locale.ROOT) + " " + bench.label() + " "
                    + bench.maskLabel();
            String svg = TimelineSvg.of(plan.strategy() + ": " + sizes + ", " + plan.worldSize() + " ranks", steps);
            String name = (plan.strategy() + " " + sizes).replaceAll("[^A-Za-z0-9]+", "-") + ".svg";
            try {
                ResultFile.write(timelines.resolve(name), to -> to.write(svg.getBytes(StandardCharsets.UTF_8)));
            } catch (IOException e) {
                throw new UncheckedIOException("--timeline: " + e.getMessage(), e);
            }
        }
    }

    private static long most(Plan plan, ToLongFunction<Integer> ofRank) {
        return IntStream.range(0, plan.worldSize())
                .boxed()
                .mapToLong(ofRank)
                .max()
                .orElseThrow();
    }

    private static Plan plan(BenchCase bench, Strategy strategy, Communicator ranks) {
        int world = ranks.worldSize();
        Layout layout = bench.causal() && bench.window() == null
                ? Layout.zigzag(bench.length(), world)
                : Layout.contiguous(bench.length(), world);
        AttentionOptions options = AttentionOptions.defaults();
        return Plan.of(
                Problem.of(bench.shape(), layout, bench.mask()),
                strategy,
                ranks.device().isCuda() ? options.onCuda() : options);
    }

    private void heading(String device, int ranks, String by) {
        String layout = "zigzag where causal without a window, else contiguous";
        Paragraph.print(
                out,
                ranks + " ranks on " + device + (by == null ? "" : ", over " + by) + "; " + layout + "; in each of "
                        + repeats + " runs all strategies take turns");
        Paragraph.print(
                out,
                "ms: the slowest rank's median. FLOPs: forward 4 * batch * heads * length^2 * dim, half of it when"
                        + " causal, a window's pairs of it; with backward 3.5 times that; a second and a rank."
                        + " Ratio: the"
                        + " ring's time over that of the line, above 1 is faster. Buffers: what the operation"
                        + " holds on a"
                        + " rank; held: with q, k, v, out, lse and gradients.");
    }

    private void print(BenchCase bench, List<Line> lines, Communicator ranks) {
        out.printf(
                Locale.ROOT,
                "%n%s %s %s%n",
                bench.shape().dtype().name().toLowerCase(Locale.ROOT),
                bench.label(),
                bench.maskLabel());
        boolean cuda = ranks.device().isCuda();
        String rate = cuda ? " TFLOP/s" : " GFLOP/s";
        Table table = new Table(
                "Strategy", " Forward ms", rate, " Ratio", " + backward ms", rate, " Ratio", " Buffers", " Held");
        for (Line line : lines) {
            List<Object> cells = new ArrayList<>();
            cells.add(line.strategy().toString().replace(" between groups", ""));
            if (line.refused() != null) {
                cells.addAll(List.of("refused", "-", "-", "-", "-", "-", "-", "-"));
            } else {
                double work = bench.forwardFlops() / ranks.worldSize() / (cuda ? 1e9 : 1e6); // a millisecond's
                cells.addAll(cells(line.forward(), work));
                cells.addAll(cells(line.both(), 3.5 * work));
                cells.addAll(List.of(Quantity.bytes(line.buffers()), Quantity.bytes(line.held())));
            }
            table.row(cells.toArray());
        }
        table.print(out);
        for (Line line : lines) {
            if (line.refused() != null) {
                Paragraph.print(out, line.strategy() + " is refused: " + line.refused());
            }
        }
        out.flush();
    }

    private static List<String> cells(Pass pass, double work) {
        return List.of(
                String.format(Locale.ROOT, "%.3f", pass.millis()),
                String.format(Locale.ROOT, "%.1f", work / pass.millis()),
                String.format(Locale.ROOT, "%.2f", pass.ratio()));
    }
}
