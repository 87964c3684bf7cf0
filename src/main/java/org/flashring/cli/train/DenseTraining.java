package org.flashring.cli.train;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.Pointer;
import org.flashring.cli.support.Launched;
import org.flashring.cli.train.dense.AdamW;
import org.flashring.cli.train.dense.Checkpoint;
import org.flashring.cli.train.dense.DenseRank;
import org.flashring.cli.train.dense.DenseSettings;
import org.flashring.cli.train.dense.MemoryLimit;
import org.flashring.cli.train.dense.StepSeed;
import org.flashring.comm.Communicator;
import org.flashring.internal.Checks;

/** A training run by the dense engine: a rank for each thread of this JVM, or for each process. */
final class DenseTraining {
    private static final Duration DEADLINE = Duration.ofMinutes(30);

    /**
     * What came out so far.
     *
     * @param first steps that a checkpoint had done before
     * @param parameters number of learnt values
     * @param norms of each step's gradients, before they were clipped
     * @param skipped steps whose gradients were not finite
     * @param blocks bytes of rank 0's memory by name
     */
    record Outcome(
            long first,
            long parameters,
            List<Training.Step> steps,
            List<Double> norms,
            int skipped,
            Map<String, Long> blocks) {}

    private final Settings settings;
    private final DenseDevices devices;
    private final DenseSettings dense;
    private final AdamW optimizer;
    private final Corpus corpus;
    private final Path runs;
    private final int checkpointEvery;
    private final Path resume; // null to begin anew
    private final Launched launched;
    private final StepReport report;
    private final List<Training.Step> steps = new ArrayList<>();
    private final List<Double> norms = new ArrayList<>();
    private int skipped;
    private long first;
    private long parameters;
    private Map<String, Long> blocks = Map.of();

    /**
     * Prepares a run.
     *
     * @param runs where checkpoints go
     * @param launched the processes that are the ranks; null if threads are
     * @param report told of steps as they are done, on a thread of the run; null for none
     * @throws IllegalArgumentException if an option is out of range, or the run needs more memory than it may have
     */
    DenseTraining(
            Settings settings,
            DenseOptions options,
            DenseDevices devices,
            Corpus corpus,
            Path runs,
            Launched launched,
            StepReport report) {
        this.settings = settings;
        this.devices = devices;
        this.dense = devices.settings(options.settings(settings), launched);
        this.optimizer = options.optimizer(settings.learningRate());
        this.corpus = corpus;
        this.runs = runs;
        this.checkpointEvery = options.checkpointEvery();
        this.resume = options.resume() == null ? null : Checkpoint.latest(options.resume());
        this.launched = launched;
        this.report = report;
        long done = resume == null ? 0 : Checkpoint.steps(resume, dense);
        if (resume != null) {
            Checks.atLeast("--steps", settings.steps(), done + 1);
        }
        if (checkpointEvery > 0) {
            Checkpoint.requireNoneAfter(runs, done);
        }
        if (options.memory() != null) {
            MemoryLimit.require(dense, options.memory());
        }
    }

    /** Returns what decides a step. */
    DenseSettings settings() {
        return dense;
    }

    /** Returns what has come out so far; any thread may ask while the run goes on. */
    synchronized Outcome outcome() {
        return new Outcome(first, parameters, List.copyOf(steps), List.copyOf(norms), skipped, blocks);
    }

    private synchronized void begin(long done, DenseRank rank) {
        first = done;
        parameters = rank.parameterCount();
        blocks = rank.bytesByName();
        if (report != null) {
            report.startAt((int) done);
        }
    }

    private synchronized void add(Training.Step step, DenseRank.Figures figures) {
        steps.add(step);
        norms.add(figures.norm());
        skipped += figures.taken() ? 0 : 1;
    }

    /** Runs, once. */
    void run() {
        if (launched == null) {
            devices.run(settings.mesh().worldSize(), DEADLINE, this::train);
        } else {
            Map<String, String> terms = Map.of(
                    "training", settings.toString(),
                    "text", corpus.length() + " bytes",
                    "checkpoints", checkpointEvery + ", from " + resume);
            devices.run(launched, terms, DEADLINE, this::train);
        }
    }

    private void train(Communicator world) {
        try (DenseRank rank = new DenseRank(dense, optimizer, world)) {
            try {
                train(rank, world.rank() == 0);
            } catch (RuntimeException | Error e) {
                world.abort(e); // before this rank leaves its groups, in which the others would see no more than that
                throw e;
            }
        }
    }

    private void train(DenseRank rank, boolean speaks) {
        long done = 0;
        if (resume == null) {
            rank.initialize(settings.seed());
        } else {
            done = Checkpoint.read(resume, rank);
        }
        if (speaks) {
            begin(done, rank);
        }
        for (long step = done + 1; step <= settings.steps(); step++) {
            long start = System.nanoTime();
            long[][] tokens =
                    corpus.batch(settings.batch(), settings.context(), StepSeed.random(settings.seed(), step));
            DenseRank.Figures figures = rank.step(tokens);
            if (speaks) {
                double seconds = (System.nanoTime() - start) / 1e9;
                Training.Step told = new Training.Step(figures.loss(), null, seconds, Pointer.physicalBytes());
                add(told, figures);
                report.accept(told);
            }
            if (checkpointEvery > 0 && (step % checkpointEvery == 0 || step == settings.steps())) {
                Checkpoint.write(runs, step, rank);
            }
        }
    }
}
