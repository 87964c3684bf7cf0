package org.flashring.cli.bench;

import java.math.BigDecimal;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.flashring.cli.support.Quantity;

/** A {@link Timeline} as a picture: a lane for each rank, time to the right, forward and then backward. */
final class TimelineSvg {
    private static final int WIDTH = 1000;
    private static final int LEFT = 70; // of the lanes
    private static final int RIGHT = 20;
    private static final int TOP = 70;
    private static final int LANE = 34;
    private static final int BAR = 24;
    private static final int TICKS = 5;
    private static final double LETTER = 6.4; // width of one, in the labels' font
    private static final String FORWARD = "#1f5fa8";
    private static final String BACKWARD = "#5b3f8c";
    private static final String MOVE = "#ffc46b";
    private static final String HEADS = "#3c9d6b";
    private static final String READY = "#9aa5b1";

    private final StringBuilder svg = new StringBuilder();
    private final List<Timeline.Step> steps;
    private final double nanos; // of the whole

    private TimelineSvg(List<Timeline.Step> steps) {
        this.steps = steps;
        this.nanos = Math.max(
                TICKS, steps.stream().mapToLong(Timeline.Step::to).max().orElse(0));
    }

    /** Returns the picture. */
    static String of(String title, List<Timeline.Step> steps) {
        return new TimelineSvg(steps).draw(title);
    }

    private String draw(String title) {
        int ranks = 1 + steps.stream().mapToInt(Timeline.Step::rank).max().orElse(0);
        int bottom = TOP + ranks * LANE;
        add(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\""
                        + " font-size=\"12\">",
                WIDTH, bottom + 66);
        add("<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>");
        add("<text x=\"%d\" y=\"26\" font-size=\"16\" font-weight=\"bold\">%s</text>", LEFT, escaped(title));
        key(LEFT, 48);
        for (double at = 0; at <= nanos; at += tick(nanos / TICKS)) {
            add("<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#e4e4e4\"/>", x(at), TOP, x(at), bottom);
            add(
                    "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" fill=\"#555\">%s ms</text>",
                    x(at),
                    bottom + 16,
                    BigDecimal.valueOf(at).movePointLeft(6).stripTrailingZeros().toPlainString());
        }
        for (int rank = 0; rank < ranks; rank++) {
            add("<text x=\"8\" y=\"%d\">rank %d</text>", lane(rank) + 16, rank);
        }
        steps.forEach(this::step);
        add(
                "<text x=\"%d\" y=\"%d\" fill=\"#555\">k2: keys of rank 2, k2·99: 99 of them, k*: of several"
                        + " ranks; h0-3:"
                        + " key heads 0 to 3, where not all. Point at a bar for its numbers.</text>",
                LEFT, bottom + 44);
        add("</svg>");
        return svg.toString();
    }

    /** Returns the largest of 1, 2, 5, 10, 20 and so on that is at most {@code most}, which is at least 1. */
    private static double tick(double most) {
        double unit = Math.pow(10, Math.floor(Math.log10(most)));
        return unit * (most >= 5 * unit ? 5 : most >= 2 * unit ? 2 : 1);
    }

    private void key(int left, int y) {
        String[][] entries = {
            {FORWARD, "kernel, forward"},
            {BACKWARD, "kernel, backward"},
            {READY, "own keys copied, exchange posted"},
            {MOVE, "waits, receives, adds up"},
            {HEADS, "heads exchanged"}
        };
        double x = left;
        boolean heads = steps.stream().anyMatch(Timeline.Step::headExchange);
        for (String[] entry : heads ? entries : Arrays.copyOf(entries, entries.length - 1)) {
            add("<rect x=\"%.1f\" y=\"%d\" width=\"12\" height=\"12\" fill=\"%s\"/>", x, y - 10, entry[0]);
            add("<text x=\"%.1f\" y=\"%d\">%s</text>", x + 17, y, entry[1]);
            x += 17 + 7 * entry[1].length() + 20;
        }
    }

    private void step(Timeline.Step step) {
        add("<g><title>%s</title>", escaped(told(step)));
        if (step.headExchange()) {
            bar(step, step.from(), step.to(), HEADS, "heads");
        } else if (!step.computed()) {
            bar(step, step.from(), step.to(), MOVE, "");
        } else {
            bar(step, step.from(), step.computeFrom(), READY, "");
            bar(step, step.computeTo(), step.to(), MOVE, "");
            bar(step, step.computeFrom(), step.computeTo(), step.backward() ? BACKWARD : FORWARD, label(step));
        }
        add("</g>");
    }

    private void bar(Timeline.Step step, long from, long to, String color, String label) {
        double width = x(to) - x(from);
        add(
                "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"%s\" stroke=\"white\""
                        + " stroke-width=\"0.5\"/>",
                x(from), lane(step.rank()), width, BAR, color);
        if (!label.isEmpty() && width > label.length() * LETTER) {
            add(
                    "<text x=\"%.2f\" y=\"%d\" text-anchor=\"middle\" fill=\"white\" font-size=\"11\">%s</text>",
                    x(from) + width / 2, lane(step.rank()) + 16, label);
        }
    }

    /** Returns which keys and heads a step meets, in brief; what it has in common with all others is left out. */
    private String label(Timeline.Step step) {
        String keys = step.source() < 0 ? "k*" : "k" + step.source();
        boolean parts = steps.stream().filter(Timeline.Step::computed).anyMatch(other -> other.rows() != step.rows());
        boolean someHeads =
                steps.stream().filter(Timeline.Step::computed).anyMatch(other -> other.firstHead() != step.firstHead());
        long last = step.firstHead() + step.heads() - 1;
        return keys
                + (parts ? "·" + step.rows() : "")
                + (someHeads ? " h" + step.firstHead() + (last > step.firstHead() ? "-" + last : "") : "");
    }

    private static String told(Timeline.Step step) {
        String what = step.headExchange()
                ? "heads exchanged"
                : !step.computed()
                        ? "nothing computed"
                        : String.format(
                                Locale.ROOT,
                                "%,d rows of keys of %s, key heads %d to %d, kernel %.3f ms",
                                step.rows(),
                                step.source() < 0 ? "several ranks" : "rank " + step.source(),
                                step.firstHead(),
                                step.firstHead() + step.heads() - 1,
                                (step.computeTo() - step.computeFrom()) / 1e6);
        return String.format(
                Locale.ROOT,
                "rank %d, %s step %d, %.3f ms: %s; sends %s",
                step.rank(),
                step.backward() ? "backward" : "forward",
                step.step(),
                (step.to() - step.from()) / 1e6,
                what,
                Quantity.bytes(step.bytesSent()));
    }

    private double x(double at) {
        return LEFT + at / nanos * (WIDTH - LEFT - RIGHT);
    }

    private static int lane(int rank) {
        return TOP + rank * LANE + (LANE - BAR) / 2;
    }

    private static String escaped(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;");
    }

    private void add(String format, Object... values) {
        svg.append(String.format(Locale.ROOT, format, values)).append('\n');
    }
}
