package org.flashring.cli.train;

import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Font;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.flashring.cli.support.ResultFile;
import org.knowm.xchart.BitmapEncoder;
import org.knowm.xchart.BitmapEncoder.BitmapFormat;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.XYSeries;
import org.knowm.xchart.style.Styler.LegendPosition;
import org.knowm.xchart.style.XYStyler;
import org.knowm.xchart.style.markers.SeriesMarkers;

/** The loss over the steps of a run, as a picture. */
final class LossChart {
    private static final int WIDTH = 960;
    private static final int HEIGHT = 560;
    private static final Color BLUE = new Color(0x1f5fa8);
    private static final Color ORANGE = new Color(0xffc46b);
    private static final Color GRID = new Color(0xe4e4e4);

    private LossChart() {}

    /**
     * Writes a PNG to {@code file}: the curve of the ranks, over a broad one of one rank where that was compared with.
     * Steps are counted from {@code before} on.
     */
    static void write(Path file, List<Path> text, int ranks, int before, List<Training.Step> steps) throws IOException {
        System.setProperty("java.awt.headless", "true");
        XYChart chart = new XYChartBuilder()
                .width(WIDTH)
                .height(HEIGHT)
                .title(LossTitle.of(text))
                .xAxisTitle("step")
                .yAxisTitle("loss (nats per byte)")
                .build();
        style(chart.getStyler());
        double[] x = IntStream.rangeClosed(before + 1, before + steps.size())
                .asDoubleStream()
                .toArray();
        if (steps.get(0).lossOfOne() != null) {
            series(
                    chart,
                    "1 rank, same parameters",
                    x,
                    steps.stream().mapToDouble(Training.Step::lossOfOne).toArray(),
                    ORANGE,
                    9);
        }
        series(
                chart,
                ranks == 1 ? "1 rank" : ranks + " ranks",
                x,
                steps.stream().mapToDouble(Training.Step::loss).toArray(),
                BLUE,
                2.5f);
        ResultFile.write(file, out -> BitmapEncoder.saveBitmap(chart, out, BitmapFormat.PNG));
    }

    private static void series(XYChart chart, String name, double[] x, double[] y, Color color, float width) {
        XYSeries series = chart.addSeries(name, x, y);
        series.setLineColor(color);
        series.setLineStyle(new BasicStroke(width, BasicStroke.CAP_ROUND, BasicStroke.JOIN_ROUND));
        series.setMarkerColor(color);
        series.setMarker(x.length == 1 ? SeriesMarkers.CIRCLE : SeriesMarkers.NONE); // one point makes no line
    }

    private static void style(XYStyler styler) {
        styler.setChartBackgroundColor(Color.WHITE);
        styler.setPlotBackgroundColor(Color.WHITE);
        styler.setPlotGridLinesColor(GRID);
        styler.setPlotBorderVisible(false);
        styler.setLegendPosition(LegendPosition.InsideNE);
        styler.setLegendBorderColor(Color.WHITE);
        styler.setChartTitleFont(new Font(Font.SANS_SERIF, Font.BOLD, 17));
        styler.setLegendFont(new Font(Font.SANS_SERIF, Font.PLAIN, 14));
        styler.setAxisTitleFont(new Font(Font.SANS_SERIF, Font.PLAIN, 15));
        styler.setAxisTickLabelsFont(new Font(Font.SANS_SERIF, Font.PLAIN, 13));
        styler.setXAxisDecimalPattern("#,##0");
        styler.setYAxisDecimalPattern("0.0#");
        styler.setChartPadding(16);
        styler.setLocale(Locale.ROOT);
    }
}
