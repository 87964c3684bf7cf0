package org.flashring.cli.train;

import java.util.List;
import java.util.stream.Collectors;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.train.dense.Phase;
import org.flashring.cli.train.dense.PlacedBlock;

/** The memory of a rank over the phases of a step, as a picture: blocks that share a place lie side by side. */
final class MemorySvg {
    private static final int WIDTH = 1120;
    private static final int LEFT = 96;
    private static final int RIGHT = 24;
    private static final int TOP = 56;
    private static final int PLOT = 600;
    private static final int TICKS = 6;
    private static final double LETTER = 6.2; // width of one in a label
    private static final double LABEL = 12; // height of one
    private static final String[] PHASES = {
        "embed",
        "norm, q k v",
        "attention",
        "MLP",
        "head, loss",
        "q k v",
        "attention",
        "MLP",
        "attention",
        "q k v",
        "embed",
        "optimizer"
    };

    private final Svg svg;
    private final List<PlacedBlock> blocks;
    private final long total;

    private MemorySvg(String title, List<PlacedBlock> blocks) {
        this.svg = new Svg(WIDTH, TOP + PLOT + 74, LEFT, title);
        this.blocks = blocks;
        this.total = Math.max(
                1,
                blocks.stream()
                        .mapToLong(block -> block.offset() + block.bytes())
                        .max()
                        .orElse(1));
    }

    /** Returns the picture of what lies where. */
    static String of(String title, List<PlacedBlock> blocks) {
        return new MemorySvg(title, blocks).draw();
    }

    private String draw() {
        svg.add(
                "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#f6f7f9\"/>",
                LEFT, TOP, WIDTH - LEFT - RIGHT, PLOT);
        for (long at = 0; at <= total; at += tick()) {
            svg.text(LEFT - 10, y(at) + 4.5, "end", Svg.GREY, Quantity.bytes(at));
            svg.line(LEFT - 5, y(at), LEFT, y(at), "#999");
        }
        for (Phase phase : Phase.values()) {
            double middle = (x(phase.ordinal()) + x(phase.ordinal() + 1)) / 2;
            svg.text(middle, TOP + PLOT + 20, "middle", "#222", PHASES[phase.ordinal()]);
        }
        span(0, 4, "forward, once a layer");
        span(5, 10, "backward, once a layer");
        blocks.forEach(this::draw);
        return svg.toString();
    }

    private void span(int from, int to, String what) {
        double y = TOP + PLOT + 36;
        svg.line(x(from) + 8, y, x(to) - 8, y, "#999");
        svg.text((x(from) + x(to)) / 2, y + 20, "middle", Svg.GREY, what);
    }

    /** Returns the smallest power of 2 by which the height has few enough ticks. */
    private long tick() {
        long tick = 1;
        while (total / tick > TICKS) {
            tick *= 2;
        }
        return tick;
    }

    private void draw(PlacedBlock block) {
        String phases = block.phases().size() == Phase.values().length
                ? "always"
                : block.phases().stream().map(Phase::toString).collect(Collectors.joining(", "));
        svg.add(
                "<g><title>%s: %s from %s on, %s</title>",
                Svg.escaped(block.name()), Quantity.bytes(block.bytes()), Quantity.bytes(block.offset()), phases);
        for (int from = 0; from < Phase.values().length; from++) {
            if (block.phases().contains(Phase.values()[from])) {
                int to = from + 1;
                while (to < Phase.values().length && block.phases().contains(Phase.values()[to])) {
                    to++;
                }
                draw(block, from, to);
                from = to;
            }
        }
        svg.add("</g>");
    }

    private void draw(PlacedBlock block, int from, int to) {
        double top = y(block.offset() + block.bytes());
        double height = y(block.offset()) - top;
        svg.add(
                "<rect x=\"%.1f\" y=\"%.2f\" width=\"%.1f\" height=\"%.2f\" fill=\"%s\" stroke=\"white\""
                        + " stroke-width=\"0.7\"/>",
                x(from), top, x(to) - x(from), height, color(block.name()));
        String label = block.name() + " " + Quantity.bytes(block.bytes());
        String brief =
                label.length() * LETTER < x(to) - x(from) ? label : block.name().replace("tile: ", "");
        if (height > LABEL && brief.length() * LETTER < x(to) - x(from)) {
            svg.add(
                    "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" font-size=\"11\" fill=\"white\">%s</text>",
                    (x(from) + x(to)) / 2, top + height / 2 + 4, Svg.escaped(brief));
        }
    }

    private static String color(String name) {
        return switch (name) {
            case "weights", "master", "mean", "square mean" -> "#3b4a63";
            case "gradients", "gradient share" -> "#7a5195";
            case "attention", "qkv", "dqkv", "dout" -> "#c8553d";
            case "out", "lse" -> "#d98032";
            case "x" -> "#1f5fa8";
            default -> name.startsWith("tile: ") ? "#3c9d6b" : "#7d8794";
        };
    }

    private static double x(int phase) {
        return LEFT + phase * (double) (WIDTH - LEFT - RIGHT) / Phase.values().length;
    }

    private double y(long bytes) {
        return TOP + PLOT - bytes * (double) PLOT / total;
    }
}
