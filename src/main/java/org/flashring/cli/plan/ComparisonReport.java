package org.flashring.cli.plan;

import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.flashring.cli.plan.PlanComparison.Candidate;
import org.flashring.cli.plan.PlanComparison.Split;
import org.flashring.cli.support.Paragraph;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.Table;

/** What {@code flashring plan} prints of strategies beside each other, in 120 columns. */
final class ComparisonReport {
    private static final String BETWEEN = " between groups"; // ends the name of a 2-D strategy

    private final PlanComparison result;

    ComparisonReport(PlanComparison result) {
        this.result = result;
    }

    void print(PrintWriter out) {
        out.printf(Locale.ROOT, "%d layers of %s, hidden size %d%n", result.layers(), result.shape(), result.hidden());
        out.printf(Locale.ROOT, "%s, mask: %s%n%n", result.layout(), result.mask());
        strategies().print(out);
        out.println(
                """

                Forward, Backward  bytes that one layer sends in that pass, of the rank that sends most
                Balance            what the busiest rank computes, over the mean
                Buffers            of one operation, which all layers use in turn, of the rank that has most
                Held               by the fullest rank while all layers train: buffers, tensors, hidden states""");
        if (result.memory() != null) {
            out.println("Fits               in " + Quantity.bytes(result.memory()) + " a rank");
        }
        if (result.strategies().stream()
                .anyMatch(each -> each.strategy().toString().endsWith(BETWEEN))) {
            out.println("ulysses of n ranks, s: 2-D, heads exchanged in groups of n ranks, s between the groups");
        }
        for (Candidate candidate : result.strategies()) {
            if (candidate.refused() != null) {
                out.println();
                Paragraph.print(out, candidate.strategy() + " is refused: " + candidate.refused());
            }
        }
        if (result.gpus() != null) {
            splits(out);
        }
    }

    private Table strategies() {
        Table table = new Table(
                "Strategy",
                " Steps",
                " Forward",
                " Backward",
                " Balance",
                " Buffers",
                " Held",
                result.memory() == null ? "" : "Fits");
        for (Candidate each : result.strategies()) {
            String name = each.strategy().toString().replace(BETWEEN, "");
            if (each.refused() != null) {
                table.row(name, "-", "-", "-", "-", "-", "-", "refused");
                continue;
            }
            table.row(
                    name,
                    each.steps(),
                    Quantity.bytes(each.most(Planner.Rank::forwardBytesSent)),
                    Quantity.bytes(each.most(Planner.Rank::backwardBytesSent)),
                    String.format(Locale.ROOT, "%.2f", each.balance()),
                    Quantity.bytes(each.most(rank -> rank.memory().ringBuffers())),
                    Quantity.bytes(each.most(rank -> rank.memory().total())),
                    each.fits() == null ? "" : each.fits() ? "yes" : "no");
        }
        return table;
    }

    private void splits(PrintWriter out) {
        List<String> names = List.copyOf(result.splits().get(0).held().keySet());
        out.printf(
                Locale.ROOT,
                "%n%,d GPUs as data parallel x context parallel, and what the fullest rank holds:%n",
                result.gpus());
        Table table = new Table(Stream.concat(
                        Stream.of("dp x cp", " Tokens a step"), names.stream().map(name -> " " + name))
                .toArray(String[]::new));
        for (Split split : result.splits()) {
            List<Object> cells = new ArrayList<>(List.of(
                    split.dataParallel() + " x " + split.contextParallel(),
                    String.format(Locale.ROOT, "%,d", split.tokensPerStep())));
            for (String name : names) {
                cells.add(held(split.held().get(name)));
            }
            table.row(cells.toArray());
        }
        table.print(out);
        if (result.smallestContextParallel() != null) {
            out.printf(
                    Locale.ROOT,
                    "%nSmallest cp that fits in %s (! does not): %s.%n",
                    Quantity.bytes(result.memory()),
                    names.stream()
                            .map(name -> name + " "
                                    + (result.smallestContextParallel().get(name) == null
                                            ? "none"
                                            : result.smallestContextParallel().get(name)))
                            .collect(Collectors.joining(", ")));
        }
    }

    private String held(Long bytes) {
        return bytes == null
                ? "refused"
                : Quantity.bytes(bytes) + (result.memory() == null ? "" : bytes <= result.memory() ? "  " : " !");
    }
}
