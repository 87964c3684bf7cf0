package org.flashring.cli;

import java.io.IOException;
import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import org.flashring.AttentionOptions;
import org.flashring.Plan;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code flashring plan}: what training a model on long sequences will move and hold, before anything runs. */
@Command(
        name = "plan",
        description = "Tell what attention over a long sequence moves and holds on each rank, before anything runs.",
        mixinStandardHelpOptions = true,
        sortOptions = false,
        footer = {"", "Example:", "  flashring plan --length 1M --ranks 4 --kv-heads 8 --memory 80G"})
final class PlanCommand implements Callable<Integer> {
    @Spec private CommandSpec spec;
    @ArgGroup(validate = false, heading = "%nModel:%n") private PlanModel model = new PlanModel();
    @ArgGroup(validate = false, heading = "%nSequence:%n") private PlanSequence sequence = new PlanSequence();

    @Option(names = "--ranks", defaultValue = "4", description = "Ranks that share a sequence (default: ${DEFAULT-VALUE}).")
    private int ranks;

    @Option(names = "--memory", paramLabel = "BYTES", converter = Quantity.class,
            description = "Memory of a rank, such as 80G: also tell the largest length that fits.")
    private Long memory;

    @Mixin private JsonOption json;

    /** One rank: tokens held, floating-point operations of a forward pass of one layer, bytes sent by one layer, bytes held. */
    record Rank(int rank, long tokens, double forwardFlops, long forwardBytesSent, long backwardBytesSent, PlanMemory memory) {}

    /** One rank in one ring step of one layer: whose keys it holds, (query, key) pairs per head, bytes sent. */
    record Step(int step, int rank, int source, boolean computes, long visiblePairs, long forwardBytesSent, long backwardBytesSent) {}

    /** What {@code --json} writes. */
    record Result(String shape, String layout, String mask, long length, int layers, long hidden, int steps, List<Rank> ranks,
            List<Step> perStep, Long memory, Long largestLength) {}

    @Override
    public Integer call() throws IOException {
        sequence.check(spec.commandLine());
        if (memory != null && memory <= 0) {
            throw new ParameterException(spec.commandLine(), "--memory is " + memory + "; it must be positive.");
        }
        if (memory != null && sequence.fixed()) {
            throw new ParameterException(spec.commandLine(), "--memory searches for a length, and --documents fixes it; give one of the two.");
        }
        Plan plan = plan(sequence.length());
        List<Step> steps = steps(plan);
        List<Rank> perRank = new ArrayList<>();
        for (int rank = 0; rank < ranks; rank++) {
            int r = rank;
            long pairs = steps.stream().filter(step -> step.rank() == r).mapToLong(Step::visiblePairs).sum();
            perRank.add(new Rank(rank, plan.queries().localLength(rank), flops(plan, pairs), plan.forwardBytesSent(rank),
                    plan.backwardBytesSent(rank), PlanMemory.of(plan, rank, model.layers(), model.hidden())));
        }
        Long largest = memory == null ? null : largestLength();
        Result result = new Result(plan.shape().toString(), plan.queries().toString(), plan.mask().toString(), plan.queries().length(),
                model.layers(), model.hidden(), plan.steps(), perRank, steps, memory, largest);
        print(spec.commandLine().getOut(), result, plan);
        json.write(result);
        return 0;
    }

    private Plan plan(long length) {
        return Plan.of(model.shape(), sequence.layout(length, ranks), sequence.mask(length), AttentionOptions.defaults());
    }

    private static double flops(Plan plan, double pairs) {
        return 2 * pairs * plan.shape().batch() * plan.shape().queryHeads() * (plan.shape().headDim() + plan.shape().valueDim());
    }

    private static List<Step> steps(Plan plan) {
        int ranks = plan.worldSize();
        return IntStream.range(0, plan.steps() * ranks).parallel().mapToObj(i -> {
            int step = i / ranks;
            int rank = i % ranks;
            return new Step(step, rank, plan.source(rank, step), plan.computes(rank, step), plan.visiblePairs(rank, step),
                    plan.forwardBytesSent(rank, step), plan.backwardBytesSent(rank, step));
        }).toList();
    }

    /** Returns the largest length whose every rank fits in the memory, by bisection: what a rank holds grows with the length, unless the ring gets shorter. */
    private long largestLength() {
        long fits = 0;
        long tooLong = 1;
        while (tooLong < sequence.longestSearched() && fits(tooLong)) {
            fits = tooLong;
            tooLong *= 2;
        }
        while (tooLong - fits > 1) {
            long middle = (fits + tooLong) >>> 1;
            if (fits(middle)) {
                fits = middle;
            } else {
                tooLong = middle;
            }
        }
        return fits;
    }

    private boolean fits(long length) {
        Plan plan = plan(length);
        return IntStream.range(0, ranks).allMatch(rank -> PlanMemory.of(plan, rank, model.layers(), model.hidden()).total() <= memory);
    }

    private static void print(PrintWriter out, Result result, Plan plan) {
        out.printf("%d layers of %s, hidden size %d%n", result.layers(), plan.shape(), result.hidden());
        out.printf("%s, mask: %s; %d ring steps%n%n", plan.queries(), plan.mask(), plan.steps());
        out.println("Per rank, one layer's compute and traffic, and what the model keeps in memory:");
        Table ranks = new Table("Rank", " Tokens", " GFLOP forward", " Sent forward", " Sent backward", " Ring buffers", " Layer tensors",
                " Saved tensors", " Hidden states", " Held");
        for (Rank rank : result.ranks()) {
            PlanMemory held = rank.memory();
            ranks.row(rank.rank(), rank.tokens(), gigas(rank.forwardFlops()),
                    Quantity.bytes(rank.forwardBytesSent()), Quantity.bytes(rank.backwardBytesSent()), Quantity.bytes(held.ringBuffers()),
                    Quantity.bytes(held.layerTensors()), Quantity.bytes(held.savedTensors()), Quantity.bytes(held.hiddenStates()),
                    Quantity.bytes(held.total()));
        }
        ranks.print(out);
        out.println("""

                Ring buffers   of one operation, which all layers use in turn
                Layer tensors  q, k, v, output, lse and gradients of the layer at work
                Saved tensors  q, k, v, output and lse that the other layers keep for backward
                Hidden states  the input of each layer; weights and the rest of the model are not counted
                """);
        out.println("Per ring step, of all ranks:");
        Table steps = new Table("Step", " Ranks computing", " GFLOP, busiest rank", " GFLOP, mean", " Most sent forward", " Most sent backward");
        for (int s = 0; s < result.steps(); s++) {
            int step = s;
            List<Step> row = result.perStep().stream().filter(entry -> entry.step() == step).toList();
            steps.row(step, row.stream().filter(Step::computes).count(),
                    gigas(flops(plan, row.stream().mapToLong(Step::visiblePairs).max().orElse(0))),
                    gigas(flops(plan, row.stream().mapToLong(Step::visiblePairs).average().orElse(0))),
                    Quantity.bytes(row.stream().mapToLong(Step::forwardBytesSent).max().orElse(0)),
                    Quantity.bytes(row.stream().mapToLong(Step::backwardBytesSent).max().orElse(0)));
        }
        steps.print(out);
        if (result.memory() != null) {
            out.printf("%nLargest length that fits in %s per rank: %,d tokens%s%n", Quantity.bytes(result.memory()), result.largestLength(),
                    plan.mask().documentCount() > 1 ? ", or more where documents happen to end with a shard" : "");
        }
    }

    private static String gigas(double flops) {
        return String.format(Locale.ROOT, "%,.1f", flops / 1e9);
    }
}
