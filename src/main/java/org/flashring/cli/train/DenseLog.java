package org.flashring.cli.train;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.bytedeco.javacpp.Pointer;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.train.dense.DenseRank;
import org.flashring.cli.train.dense.MemoryWatch;

/** What the first rank of a dense run sees of its steps, and tells of them. */
final class DenseLog implements AutoCloseable {
    private static final int PART = 10; // of the steps, whose losses by position are averaged

    /**
     * What came out so far.
     *
     * @param first steps that a checkpoint had done before
     * @param parameters number of learnt values
     * @param norms of each step's gradients, before they were clipped
     * @param skipped steps whose gradients were not finite
     * @param throughput what a step's seconds come to; null before the first step
     * @param phases mean seconds of a step by what rank 0 did, without the first one if there are more
     * @param lossByPosition null before the first step
     * @param memory of rank 0
     */
    record Outcome(
            long first,
            long parameters,
            List<Training.Step> steps,
            List<Double> norms,
            int skipped,
            Throughput throughput,
            Map<String, Double> phases,
            LossByPosition lossByPosition,
            Memory memory) {}

    /**
     * Mean loss in bins of equal length over the longest document, in its first and last steps; NaN of empty bins.
     *
     * @param steps that each is the mean of
     */
    record LossByPosition(int steps, List<Double> first, List<Double> last) {}

    /**
     * Bytes of a rank.
     *
     * @param planned of the fullest rank
     * @param taken by rank 0, once
     * @param beside the plan on rank 0's GPU, as measured before memory by plan was taken; 0 on the host
     * @param pinned memory of the host for what is offloaded of a GPU's rank, by plan
     * @param watched most of what the system saw in use after a step that was not before the ranks were made
     */
    record Memory(long planned, long taken, long beside, long pinned, long watched) {}

    private final StepReport report;
    private final long planned;
    private final long pinned;
    private final Throughput throughput;
    private final MemoryWatch watch;
    private final int sharers;
    private final EventFile events; // null for none
    private final List<Training.Step> steps = new ArrayList<>();
    private final List<Double> norms = new ArrayList<>();
    private final Map<String, Double> phases = new LinkedHashMap<>();
    private final List<double[]> firstLosses = new ArrayList<>();
    private final Deque<double[]> lastLosses = new ArrayDeque<>();
    private int part;
    private int skipped;
    private long first;
    private long parameters;
    private long taken;
    private long beside;
    private long watched;

    /**
     * Begins a log, before memory is taken.
     *
     * @param report told of steps as they are done
     * @param planned bytes of the fullest rank
     * @param pinned bytes of the host for a GPU's rank
     * @param sharers ranks whose memory {@code watch} sees together
     * @param tensorboard folder for an event file, null for none
     * @throws UncheckedIOException if that cannot be written
     */
    DenseLog(
            StepReport report,
            Throughput throughput,
            long planned,
            long pinned,
            MemoryWatch watch,
            int sharers,
            Path tensorboard) {
        this.report = report;
        this.throughput = throughput;
        this.planned = planned;
        this.pinned = pinned;
        this.watch = watch;
        this.sharers = sharers;
        try {
            this.events = tensorboard == null ? null : new EventFile(tensorboard);
        } catch (IOException e) {
            throw new UncheckedIOException("--tensorboard " + tensorboard + " cannot be written: " + e.getMessage(), e);
        }
    }

    /** Begins the steps after {@code done}, up to {@code last}. */
    synchronized void begin(long done, long last, DenseRank rank) {
        first = done;
        part = (int) Math.max(1, (last - done) / PART);
        parameters = rank.parameterCount();
        taken = rank.bytesHeld();
        beside = rank.bytesBeside(sharers);
        report.startAt((int) done);
    }

    /** Adds a step that took so many seconds. */
    void add(double seconds, DenseRank.Figures figures, DenseRank rank) {
        Training.Step step = new Training.Step(figures.loss(), null, seconds, Pointer.physicalBytes());
        Map<String, Double> parts = rank.seconds();
        keep(step, figures, parts, rank.lossByPosition());
        report.accept(
                step,
                String.format(
                        Locale.ROOT,
                        "%s, %s in use, %s planned%s",
                        throughput.line(seconds),
                        Quantity.bytes(watched),
                        Quantity.bytes(planned),
                        beside == 0 ? "" : " and " + Quantity.bytes(beside) + " beside"));
        if (events != null) {
            write(step, figures, parts);
        }
    }

    private synchronized void keep(
            Training.Step step, DenseRank.Figures figures, Map<String, Double> parts, double[] byPosition) {
        if (steps.size() == 1) {
            phases.clear(); // the first step warms up
        }
        parts.forEach((name, value) -> phases.merge(name, value, Double::sum));
        steps.add(step);
        norms.add(figures.norm());
        skipped += figures.taken() ? 0 : 1;
        watched = Math.max(watched, watch.bytes() / sharers);
        if (firstLosses.size() < part) {
            firstLosses.add(byPosition);
        }
        if (lastLosses.size() == part) {
            lastLosses.remove();
        }
        lastLosses.add(byPosition);
    }

    private void write(Training.Step step, DenseRank.Figures figures, Map<String, Double> parts) {
        Map<String, Double> values = new TreeMap<>();
        values.put("loss", step.loss());
        values.put("gradient_norm", figures.norm());
        values.put("tokens_per_second", throughput.tokensPerSecond(step.seconds()));
        values.put("flops_per_second", throughput.flops().model() / step.seconds());
        if (throughput.peak() != null) {
            values.put("mfu", throughput.mfu(step.seconds()));
        }
        values.put("memory_bytes", (double) watched);
        values.put("seconds/step", step.seconds());
        parts.forEach((name, value) -> values.put("seconds/" + name.replace(' ', '_'), value));
        try {
            events.scalars(first + steps.size(), values);
        } catch (IOException e) {
            throw new UncheckedIOException("--tensorboard cannot be written: " + e.getMessage(), e);
        }
    }

    /** Returns what has come out so far; any thread may ask while the run goes on. */
    synchronized Outcome outcome() {
        int timed = Math.max(1, steps.size() - 1);
        Map<String, Double> means = new LinkedHashMap<>();
        phases.forEach((name, value) -> means.put(name, value / timed));
        return new Outcome(
                first,
                parameters,
                List.copyOf(steps),
                List.copyOf(norms),
                skipped,
                throughput,
                means,
                new LossByPosition(firstLosses.size(), means(firstLosses), means(List.copyOf(lastLosses))),
                new Memory(planned, taken, beside, pinned, watched));
    }

    private static List<Double> means(List<double[]> all) {
        return all.isEmpty()
                ? List.of()
                : Arrays.stream(all.stream().reduce(new double[all.get(0).length], DenseLog::sum))
                        .mapToObj(sum -> sum / all.size())
                        .toList();
    }

    private static double[] sum(double[] a, double[] b) {
        double[] sum = a.clone();
        Arrays.setAll(sum, i -> a[i] + b[i]);
        return sum;
    }

    @Override
    public void close() throws IOException {
        if (events != null) {
            events.close();
        }
    }
}
