package org.flashring.frameworks;

import java.awt.Color;
import java.awt.Font;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.ToDoubleFunction;
import org.flashring.frameworks.FrameworkContest.Showing;
import org.knowm.xchart.BitmapEncoder;
import org.knowm.xchart.BitmapEncoder.BitmapFormat;
import org.knowm.xchart.CategoryChart;
import org.knowm.xchart.CategoryChartBuilder;
import org.knowm.xchart.style.CategoryStyler;
import org.knowm.xchart.style.Styler.LegendPosition;

/** What a contest showed, as a table for a page and as a picture. */
final class ContestPage {
    private static final double MEBIBYTE = 1 << 20;
    private static final Color OWN = new Color(0xffc46b);
    private static final Color FLASHRING = new Color(0x1f5fa8);

    private ContestPage() {}

    /** Prints medians, and the median of the ratios of each turn, over which the machine changes least. */
    static void print(PrintStream out, List<Showing> showings) {
        out.println("| attention | forward ms | step ms | forward MiB | step MiB | forward, times as fast | step |");
        out.println("|---|---:|---:|---:|---:|---:|---:|");
        for (int i = 0; i < showings.size(); i++) {
            Showing one = showings.get(i);
            Showing own = showings.get(i - i % 2);
            out.printf(
                    Locale.ROOT,
                    "| %s | %.0f | %.0f | %.0f | %.0f | %s | %s |%n",
                    title(one),
                    median(one.forward()),
                    median(one.step()),
                    Math.max(0, one.forwardBytes()) / MEBIBYTE,
                    Math.max(0, one.stepBytes()) / MEBIBYTE,
                    one == own ? "" : ratio(own.forward(), one.forward()),
                    one == own ? "" : ratio(own.step(), one.step()));
        }
    }

    private static String ratio(double[] own, double[] flashring) {
        double[] ratios = new double[own.length];
        for (int turn = 0; turn < own.length; turn++) {
            ratios[turn] = own[turn] / flashring[turn];
        }
        return String.format(Locale.ROOT, "%.2f", median(ratios));
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return (sorted[sorted.length / 2] + sorted[(sorted.length - 1) / 2]) / 2;
    }

    private static String title(Showing showing) {
        return switch (showing.name()) {
            case "djl own" -> "DJL, of its operators";
            case "nd4j own" -> "ND4J, multiHeadDotProductAttention";
            case "bytedeco own" -> "PyTorch (JavaCPP), scaled_dot_product_attention";
            default -> "FlashRing in its place";
        };
    }

    /** Draws times over memory into a PNG. */
    static void draw(Path file, List<Showing> showings, int length, boolean causal) throws IOException {
        System.setProperty("java.awt.headless", "true");
        String what = String.format(Locale.ROOT, " of attention over %,d tokens%s", length, causal ? ", causal" : "");
        List<CategoryChart> charts = List.of(
                chart(
                        "Processor time" + what,
                        "seconds",
                        showings,
                        one -> median(one.forward()) / 1e3,
                        one -> median(one.step()) / 1e3),
                chart(
                        "Memory" + what,
                        "GiB",
                        showings,
                        one -> Math.max(0, one.forwardBytes()) / MEBIBYTE / 1024,
                        one -> Math.max(0, one.stepBytes()) / MEBIBYTE / 1024));
        BitmapEncoder.saveBitmap(charts, charts.size(), 1, file.toString(), BitmapFormat.PNG);
    }

    private static CategoryChart chart(
            String title,
            String unit,
            List<Showing> showings,
            ToDoubleFunction<Showing> forward,
            ToDoubleFunction<Showing> step) {
        CategoryChart chart = new CategoryChartBuilder()
                .width(900)
                .height(330)
                .title(title)
                .yAxisTitle(unit)
                .build();
        List<String> categories = new ArrayList<>();
        List<Double> own = new ArrayList<>();
        List<Double> flashring = new ArrayList<>();
        for (int i = 0; i < showings.size(); i += 2) {
            String framework = framework(showings.get(i));
            categories.addAll(List.of(framework + ", forward", framework + ", step"));
            own.addAll(List.of(forward.applyAsDouble(showings.get(i)), step.applyAsDouble(showings.get(i))));
            flashring.addAll(
                    List.of(forward.applyAsDouble(showings.get(i + 1)), step.applyAsDouble(showings.get(i + 1))));
        }
        chart.addSeries("the framework's own", categories, own).setFillColor(OWN);
        chart.addSeries("FlashRing in its place", categories, flashring).setFillColor(FLASHRING);
        style(chart.getStyler());
        return chart;
    }

    private static String framework(Showing showing) {
        return switch (showing.name().split(" ")[0]) {
            case "djl" -> "DJL";
            case "nd4j" -> "ND4J";
            default -> "PyTorch";
        };
    }

    private static void style(CategoryStyler styler) {
        styler.setChartBackgroundColor(Color.WHITE);
        styler.setPlotBorderVisible(false);
        styler.setLegendPosition(LegendPosition.InsideNE);
        styler.setLegendBorderColor(Color.WHITE);
        styler.setChartTitleFont(new Font(Font.SANS_SERIF, Font.BOLD, 16));
        styler.setLabelsVisible(true);
        styler.setDecimalPattern("0.00");
        styler.setAvailableSpaceFill(0.8);
        styler.setLocale(Locale.ROOT);
    }
}
