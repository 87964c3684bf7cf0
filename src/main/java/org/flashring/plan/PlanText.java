package org.flashring.plan;

import java.util.Locale;

/** What {@link Plan#toString} says. */
final class PlanText {
    private PlanText() {}

    static String of(Plan plan) {
        StringBuilder text = new StringBuilder();
        text.append(plan.shape())
                .append(", ")
                .append(plan.queries())
                .append(", ")
                .append(plan.mask())
                .append(": ")
                .append(plan.steps())
                .append(plan.steps() == 1 ? " step\n" : " steps\n");
        String heads = plan.headsDealt();
        text.append(heads.isEmpty() ? "" : heads + "\n");
        for (int rank = 0; rank < plan.worldSize(); rank++) {
            text.append(String.format(
                    Locale.ROOT,
                    "rank %d: %d tokens %s, %.3g GFLOP forward, sends %,d B forward%s, holds %,d B%n",
                    rank,
                    plan.queries().localLength(rank),
                    plan.queries().positions(rank).ranges().size() > 4
                            ? ""
                            : plan.queries().positions(rank),
                    plan.forwardFlops(rank) / 1e9,
                    plan.forwardBytesSent(rank),
                    plan.options().backward()
                            ? String.format(Locale.ROOT, " and %,d B backward", plan.backwardBytesSent(rank))
                            : "",
                    plan.bytesHeld(rank)));
        }
        return text.toString();
    }
}
