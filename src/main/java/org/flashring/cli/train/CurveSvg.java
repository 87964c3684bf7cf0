package org.flashring.cli.train;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.List;
import java.util.Locale;
import java.util.stream.DoubleStream;

/** Curves over one pair of axes, as a picture. */
final class CurveSvg {
    private static final int WIDTH = 960;
    private static final int HEIGHT = 560;
    private static final int LEFT = 78;
    private static final int RIGHT = 24;
    private static final int TOP = 76;
    private static final int BOTTOM = 64;
    private static final int TICKS = 8; // at most about so many
    private static final double LETTER = 7.2; // width of one

    /**
     * A curve.
     *
     * @param x ascending
     * @param y where it is not finite, the curve has a gap
     */
    record Curve(String name, String color, double[] x, double[] y) {}

    /** An axis from a first to a last value, and the ticks' distance. */
    private record Axis(double from, double to, double tick) {
        static Axis of(double from, double to) {
            double span = Math.max(to - from, Math.max(1e-9, Math.abs(to) * 1e-3)); // one value has a place, too
            double unit = Math.pow(10, Math.floor(Math.log10(span / TICKS)));
            double steps = span / TICKS / unit;
            double tick = unit * (steps <= 1 ? 1 : steps <= 2 ? 2 : steps <= 5 ? 5 : 10);
            return new Axis(from, from + span, tick);
        }

        /** Returns the axis up and down to whole ticks. */
        Axis whole() {
            return new Axis(Math.floor(from / tick) * tick, Math.ceil(to / tick - 1e-9) * tick, tick);
        }

        double place(double value) {
            return (value - from) / (to - from);
        }
    }

    private final Svg svg;
    private final List<Curve> curves;
    private final Axis across;
    private final Axis up;

    private CurveSvg(String title, List<Curve> curves) {
        this.svg = new Svg(WIDTH, HEIGHT, LEFT, title);
        this.curves = curves;
        this.across = axis(Curve::x);
        this.up = axis(Curve::y).whole();
    }

    private interface Side {
        double[] of(Curve curve);
    }

    private Axis axis(Side side) {
        double[] values = curves.stream()
                .flatMapToDouble(curve -> DoubleStream.of(side.of(curve)))
                .filter(Double::isFinite)
                .toArray();
        return values.length == 0
                ? Axis.of(0, 1)
                : Axis.of(
                        DoubleStream.of(values).min().getAsDouble(),
                        DoubleStream.of(values).max().getAsDouble());
    }

    /** Returns the picture. */
    static String of(String title, String across, String up, List<Curve> curves) {
        return new CurveSvg(title, curves).draw(across, up);
    }

    private String draw(String acrossTitle, String upTitle) {
        for (double at = Math.ceil(across.from() / across.tick()) * across.tick();
                at <= across.to() + across.tick() * 1e-9;
                at += across.tick()) {
            svg.line(x(at), TOP, x(at), HEIGHT - BOTTOM, Svg.GRID);
            svg.text(x(at), HEIGHT - BOTTOM + 20, "middle", Svg.GREY, number(at, across.tick()));
        }
        for (double at = up.from(); at <= up.to() + up.tick() * 1e-9; at += up.tick()) {
            svg.line(LEFT, y(at), WIDTH - RIGHT, y(at), Svg.GRID);
            svg.text(LEFT - 10, y(at) + 4.5, "end", Svg.GREY, number(at, up.tick()));
        }
        svg.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 18, "middle", "#222", acrossTitle);
        svg.add(
                "<text transform=\"translate(22 %d) rotate(-90)\" text-anchor=\"middle\" fill=\"#222\">%s</text>",
                (TOP + HEIGHT - BOTTOM) / 2, Svg.escaped(upTitle));
        double key = LEFT;
        for (Curve curve : curves) {
            svg.add("<rect x=\"%.1f\" y=\"48\" width=\"22\" height=\"4\" rx=\"2\" fill=\"%s\"/>", key, curve.color());
            svg.text(key + 29, 54.5, "start", "#222", curve.name());
            key += 29 + curve.name().length() * LETTER + 22;
            draw(curve);
        }
        return svg.toString();
    }

    private void draw(Curve curve) {
        StringBuilder path = new StringBuilder();
        boolean pen = false;
        for (int i = 0; i < curve.x().length; i++) {
            boolean there = Double.isFinite(curve.y()[i]);
            boolean after = i + 1 < curve.x().length && Double.isFinite(curve.y()[i + 1]);
            if (there && !pen && !after) { // alone: a line of one point is none
                svg.add(
                        "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>",
                        x(curve.x()[i]), y(curve.y()[i]), curve.color());
            } else if (there) {
                path.append(
                        String.format(Locale.ROOT, "%s%.1f %.1f", pen ? "L" : "M", x(curve.x()[i]), y(curve.y()[i])));
            }
            pen = there;
        }
        if (path.length() > 0) {
            svg.add(
                    "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2.2\" stroke-linejoin=\"round\""
                            + " stroke-linecap=\"round\"/>",
                    path, curve.color());
        }
    }

    private static String number(double value, double tick) {
        int digits = Math.max(0, -(int) Math.floor(Math.log10(tick) + 1e-9));
        return String.format(
                Locale.ROOT,
                "%,." + digits + "f",
                BigDecimal.valueOf(value).setScale(digits, RoundingMode.HALF_EVEN)); // no -0.0
    }

    private double x(double value) {
        return LEFT + across.place(value) * (WIDTH - LEFT - RIGHT);
    }

    private double y(double value) {
        return HEIGHT - BOTTOM - up.place(value) * (HEIGHT - TOP - BOTTOM);
    }
}
