package org.flashring.cli.train;

import java.util.Locale;

/** A picture in SVG, written as text: nothing of java.desktop, which small Java images lack. */
final class Svg {
    static final String BLUE = "#1f5fa8";
    static final String ORANGE = "#e08a1e";
    static final String GREY = "#555";
    static final String GRID = "#e4e4e4";

    private final StringBuilder svg = new StringBuilder();

    /** Begins a white picture with a title. */
    Svg(int width, int height, int left, String title) {
        add(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\""
                        + " font-family=\"sans-serif\" font-size=\"13\">",
                width, height, width, height);
        add("<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>");
        add("<text x=\"%d\" y=\"28\" font-size=\"17\" font-weight=\"bold\">%s</text>", left, escaped(title));
    }

    /** Adds a line of SVG; numbers are written as they are everywhere. */
    void add(String format, Object... values) {
        svg.append(String.format(Locale.ROOT, format, values)).append('\n');
    }

    void line(double x1, double y1, double x2, double y2, String color) {
        add("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>", x1, y1, x2, y2, color);
    }

    /** Adds text of which (x, y) is the start, middle or end, as {@code anchor} says. */
    void text(double x, double y, String anchor, String color, String text) {
        add("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"%s\">%s</text>", x, y, anchor, color, escaped(text));
    }

    static String escaped(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;");
    }

    /** Returns the picture. */
    @Override
    public String toString() {
        return svg + "</svg>\n";
    }
}
