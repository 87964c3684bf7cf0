package org.flashring.cli.plan;

import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Function;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.Table;
import org.flashring.plan.Plan;

/** What {@code flashring plan} prints, in 80 columns. Ranks and steps that do not differ share a row. */
final class PlanReport {
    private final PlanCommand.Result result;
    private final Plan plan;

    PlanReport(PlanCommand.Result result, Plan plan) {
        this.result = result;
        this.plan = plan;
    }

    void print(PrintWriter out) {
        out.printf(Locale.ROOT, "%d layers of %s, hidden size %d%n", result.layers(), plan.shape(), result.hidden());
        out.printf(Locale.ROOT, "%s, mask: %s%n", plan.queries(), plan.mask());
        String backward =
                plan.backwardSteps() == plan.steps() ? "" : " forward, " + plan.backwardSteps() + " backward,";
        out.printf(
                Locale.ROOT,
                "%d %s%s by %s%n",
                plan.steps(),
                plan.steps() == 1 ? "step" : "steps",
                backward,
                plan.strategy());
        if (!plan.headsDealt().isEmpty()) {
            out.println(plan.headsDealt());
        }
        out.println("\nPer rank, one layer:");
        merged(
                        new Table("Rank", " Tokens", " Work forward", " Sent forward", " Sent backward"),
                        result.ranks(),
                        rank -> List.of(
                                String.format(Locale.ROOT, "%,d", rank.tokens()),
                                Quantity.flops(rank.forwardFlops()),
                                Quantity.bytes(rank.forwardBytesSent()),
                                Quantity.bytes(rank.backwardBytesSent())))
                .print(out);
        out.println("\nPer rank, memory while all layers train:");
        merged(
                        new Table("Rank", " Buffers", " Layer tensors", " Saved tensors", " Hidden states", " Held"),
                        result.ranks(),
                        rank -> List.of(
                                Quantity.bytes(rank.memory().ringBuffers()),
                                Quantity.bytes(rank.memory().layerTensors()),
                                Quantity.bytes(rank.memory().savedTensors()),
                                Quantity.bytes(rank.memory().hiddenStates()),
                                Quantity.bytes(rank.memory().total())))
                .print(out);
        out.println(
                """

                Buffers        of one operation, which all layers use in turn
                Layer tensors  q, k, v, output, lse and gradients of the layer at work
                Saved tensors  q, k, v, output and lse that the other layers keep for backward
                Hidden states  the input of each layer; weights and all else are not counted

                Per step, one layer: ranks that compute forward, and the most a rank sends""");
        merged(
                        new Table(
                                "Step", " Computing", " Busiest rank", " Mean rank", " Sent forward", " Sent backward"),
                        steps(),
                        step -> List.of(
                                Long.toString(step.stream()
                                        .filter(PlanCommand.Step::computes)
                                        .count()),
                                Quantity.flops(PlanCommand.flops(
                                        plan,
                                        step.stream()
                                                .mapToLong(PlanCommand.Step::visiblePairs)
                                                .max()
                                                .orElse(0))),
                                Quantity.flops(PlanCommand.flops(
                                        plan,
                                        step.stream()
                                                .mapToLong(PlanCommand.Step::visiblePairs)
                                                .average()
                                                .orElse(0))),
                                Quantity.bytes(step.stream()
                                        .mapToLong(PlanCommand.Step::forwardBytesSent)
                                        .max()
                                        .orElse(0)),
                                Quantity.bytes(step.stream()
                                        .mapToLong(PlanCommand.Step::backwardBytesSent)
                                        .max()
                                        .orElse(0))))
                .print(out);
        if (result.memory() != null) {
            out.println();
            memory(out);
        }
    }

    /** Returns the entries of all ranks, by step. */
    private List<List<PlanCommand.Step>> steps() {
        List<List<PlanCommand.Step>> steps = new ArrayList<>();
        int ranks = plan.worldSize();
        for (int step = 0; step < result.perStep().size() / ranks; step++) {
            steps.add(result.perStep().subList(step * ranks, (step + 1) * ranks));
        }
        return steps;
    }

    private void memory(PrintWriter out) {
        String memory = Quantity.bytes(result.memory());
        Planner.Rank fullest = result.ranks().stream()
                .reduce((a, b) -> b.memory().total() > a.memory().total() ? b : a)
                .orElseThrow();
        out.printf(
                Locale.ROOT,
                "%s in %s a rank: rank %d holds %s.%n",
                result.fits() ? "Fits" : "Does NOT fit",
                memory,
                fullest.rank(),
                Quantity.bytes(fullest.memory().total()));
        if (!result.fits()) {
            boolean anywhere = result.ranksNeeded() != null;
            out.printf(
                    Locale.ROOT,
                    "%s over %,d ranks.%n",
                    anywhere ? "It fits" : "Nor does it fit",
                    anywhere ? result.ranksNeeded() : PlanCommand.MOST_RANKS);
        }
        if (result.largestLength() != null) {
            out.printf(
                    Locale.ROOT,
                    "Largest length that fits over %d ranks: %,d tokens%s.%n",
                    plan.worldSize(),
                    result.largestLength(),
                    plan.mask().documentCount() > 1 ? ",\nor more where documents happen to end with a shard" : "");
        }
    }

    /** Returns {@code table} with a row for each of {@code entries}, neighbours whose cells are equal as one: 0-7. */
    private static <T> Table merged(Table table, List<T> entries, Function<T, List<String>> cells) {
        int first = 0;
        List<String> row = cells.apply(entries.get(0));
        for (int i = 1; i <= entries.size(); i++) {
            List<String> next = i == entries.size() ? null : cells.apply(entries.get(i));
            if (!row.equals(next)) {
                List<Object> all =
                        new ArrayList<>(List.of(first == i - 1 ? String.valueOf(first) : first + "-" + (i - 1)));
                all.addAll(row);
                table.row(all.toArray());
                first = i;
                row = next;
            }
        }
        return table;
    }
}
