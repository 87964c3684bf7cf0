package org.flashring.cli.train;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.support.ResultFile;
import org.flashring.cli.train.CurveSvg.Curve;

/** The pictures of a dense run. */
final class DensePictures {
    private static final int MOST_POINTS = 1000; // of a curve

    private DensePictures() {}

    /** Returns the pictures' paths, having written them into a folder. */
    static List<Path> write(Path folder, DenseResult result) throws IOException {
        List<Path> written = new ArrayList<>();
        String unit = "loss (nats per " + result.vocabulary().token() + ")";
        int ranks = result.settings().mesh().worldSize();
        written.add(write(
                folder.resolve("loss.svg"),
                CurveSvg.of(
                        LossTitle.of(result.text().stream().map(Path::of).toList()),
                        "step",
                        unit,
                        List.of(thinned(
                                ranks == 1 ? "1 rank" : ranks + " ranks",
                                result.stepsBefore() + 1,
                                result.steps().stream()
                                        .mapToDouble(Training.Step::loss)
                                        .toArray())))));
        DenseLog.LossByPosition positions = result.lossByPosition();
        written.add(write(
                folder.resolve("loss-by-position.svg"),
                CurveSvg.of(
                        "Loss by position" + (result.repeat() ? "; the second half repeats the first" : ""),
                        "position in the " + (result.documents() == null ? "sequence" : "document"),
                        unit,
                        List.of(
                                byPosition(steps("first", positions.steps()), "#9aa5b1", result, positions.first()),
                                byPosition(steps("last", positions.steps()), Svg.BLUE, result, positions.last())))));
        written.add(write(
                folder.resolve("memory.svg"),
                MemorySvg.of(
                        String.format(
                                Locale.ROOT,
                                "Memory of rank 0 over a step: %s, --recompute %s",
                                Quantity.bytes(result.memory().planned()),
                                result.recompute()),
                        result.memoryBlocks())));
        return written;
    }

    private static String steps(String which, int steps) {
        return steps == 1 ? which + " step" : "mean of the " + which + " " + steps + " steps";
    }

    private static Path write(Path file, String svg) throws IOException {
        ResultFile.write(file, out -> out.write(svg.getBytes(StandardCharsets.UTF_8)));
        return file;
    }

    /** Returns a curve over steps, where there are too many of means of some. */
    private static Curve thinned(String name, long first, double[] losses) {
        int some = (losses.length + MOST_POINTS - 1) / MOST_POINTS;
        int points = (losses.length + some - 1) / some;
        double[] x = new double[points];
        double[] y = new double[points];
        for (int point = 0; point < points; point++) {
            int from = point * some;
            int to = Math.min(from + some, losses.length);
            x[point] = first + (from + to - 1) / 2.0;
            y[point] = Arrays.stream(losses, from, to).average().orElse(Double.NaN);
        }
        return new Curve(some == 1 ? name : name + ", means of " + some + " steps", Svg.BLUE, x, y);
    }

    private static Curve byPosition(String name, String color, DenseResult result, List<Double> means) {
        int context = result.settings().context();
        double longest = result.documents() == null ? context : Math.min(context, result.documents());
        return new Curve(
                name,
                color,
                IntStream.range(0, means.size())
                        .mapToDouble(bin -> (bin + 0.5) * longest / means.size())
                        .toArray(),
                means.stream().mapToDouble(mean -> mean).toArray());
    }
}
