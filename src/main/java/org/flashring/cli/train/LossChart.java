package org.flashring.cli.train;

import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Font;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
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
    private static final Color ORANGE = new Color(0xe07b00);
    private static final Color GRID = new Color(0xe4e4e4);

    private LossChart() {}

    /** Writes a PNG to {@code file}: one curve of the ranks, and dots for one rank where it was compared with. */
    static void write(Path file, String title, int ranks, List<Training.Step> steps) throws IOException {
        System.setProperty("java.awt.headless", "true");
        XYChart chart = new XYChartBuilder().width(WIDTH).height(HEIGHT).title(title)
                .xAxisTitle("step").yAxisTitle("loss (nats per byte)").build();
        style(chart.getStyler());
        double[] x = IntStream.rangeClosed(1, steps.size()).asDoubleStream().toArray();
        XYSeries sharded = chart.addSeries(ranks == 1 ? "1 rank" : ranks + " ranks, ring attention", x, steps.stream().mapToDouble(Training.Step::loss).toArray());
        sharded.setLineColor(BLUE);
        sharded.setLineStyle(new BasicStroke(2.5f));
        sharded.setMarkerColor(BLUE);
        sharded.setMarker(steps.size() == 1 ? SeriesMarkers.CIRCLE : SeriesMarkers.NONE);
        if (steps.get(0).lossOfOne() != null) {
            XYSeries one = chart.addSeries("1 rank, same parameters", x, steps.stream().mapToDouble(Training.Step::lossOfOne).toArray());
            one.setLineColor(ORANGE);
            one.setLineStyle(new BasicStroke(1.5f, BasicStroke.CAP_BUTT, BasicStroke.JOIN_ROUND, 1, new float[] {3, 5}, 0));
            one.setMarker(SeriesMarkers.NONE);
        }
        try (OutputStream out = Files.newOutputStream(file)) {
            BitmapEncoder.saveBitmap(chart, out, BitmapFormat.PNG);
        }
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
    }
}
