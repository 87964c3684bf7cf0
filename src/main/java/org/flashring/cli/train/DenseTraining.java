package org.flashring.cli.train;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.Pointer;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.StopRequest;
import org.flashring.cli.train.dense.AdamW;
import org.flashring.cli.train.dense.Checkpoint;
import org.flashring.cli.train.dense.DenseRank;
import org.flashring.cli.train.dense.DenseSettings;
import org.flashring.cli.train.dense.Lesson;
import org.flashring.cli.train.dense.MemoryLimit;
import org.flashring.cli.train.dense.MemoryWatch;
import org.flashring.cli.train.dense.StepFlops;
import org.flashring.cli.train.dense.StepSeed;
import org.flashring.comm.Communicator;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.internal.Checks;

/** A training run by the dense engine: a rank for each thread of this JVM, or for each process. */
final class DenseTraining {
    private static final Duration DEADLINE = Duration.ofMinutes(30);
    private static final int INTERRUPTED = 130; // of a signal that another process got

    private final Settings settings;
    private final DenseDevices devices;
    private final DenseSettings dense;
    private final List<DenseSettings> faster; // that would not fit; null if there was no choice
    private final AdamW optimizer;
    private final Feed feed;
    private final Lesson lesson;
    private final Path runs;
    private final int checkpointEvery;
    private final Path resume; // null to begin anew
    private final Double peakFlops;
    private final Path tensorboard;
    private final Launched launched;
    private final StepReport report;
    private volatile DenseLog log; // of the first rank, once it has begun
    private StopRequest stop; // while it runs
    private volatile Stopped stopped;

    /**
     * How a signal ended the run.
     *
     * @param checkpoint what it was left with
     */
    record Stopped(int exitCode, Path checkpoint) {}

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
        this.launched = launched;
        this.devices = devices;
        List<DenseSettings> choices = options.settings(settings, devices.cuda()).stream()
                .map(choice -> devices.settings(choice, launched))
                .toList();
        this.dense = options.memory() == null ? choices.get(0) : MemoryLimit.fastest(choices, options.memory());
        MemoryLimit.requirePinned(dense, ranksHere(), Pointer.availablePhysicalBytes());
        this.faster = choices.size() == 1 ? null : choices.subList(0, choices.indexOf(dense));
        this.optimizer = options.optimizer(settings.learningRate());
        this.feed = options.feed(corpus, settings.context());
        this.lesson = new Lesson(corpus.digest(), rows(options));
        this.runs = runs;
        this.checkpointEvery = options.checkpointEvery();
        this.resume = options.resume() == null ? null : Checkpoint.latest(options.resume());
        this.peakFlops = options.peakFlops();
        this.tensorboard = options.tensorboard();
        this.report = report;
        long done = resume == null ? 0 : Checkpoint.steps(resume, dense);
        if (resume != null) {
            if (settings.steps() <= done) {
                throw Checks.broken(
                        "--steps", settings.steps(), "be at least " + (done + 1) + ": the checkpoint has done " + done);
            }
            if (!options.otherText()) {
                Checkpoint.require(resume, lesson);
            }
        }
        if (checkpointEvery > 0) {
            Checkpoint.requireNoneAfter(runs, done);
        }
    }

    /** Returns the options that decide the rows of steps and what their tokens see. */
    private Map<String, String> rows(DenseOptions options) {
        int context = settings.context();
        Integer documents = options.documents();
        Map<String, String> rows = new LinkedHashMap<>(); // in the order in which a refusal names the first
        rows.put("--context", String.valueOf(context));
        rows.put("--batch", String.valueOf(settings.batch()));
        rows.put("--window", String.valueOf(settings.window()));
        rows.put("--documents", documents == null || documents >= context ? "of the context" : documents.toString());
        rows.put("--repeat", String.valueOf(options.repeat()));
        rows.put("--seed", String.valueOf(settings.seed()));
        return rows;
    }

    /** Returns the ranks of this host. */
    int ranksHere() {
        return DenseDevices.ranksHere(settings.mesh().worldSize(), launched);
    }

    /** Returns what decides a step. */
    DenseSettings settings() {
        return dense;
    }

    /** Returns what would be faster, and does not fit into memory; null if there was no choice. */
    List<DenseSettings> faster() {
        return faster;
    }

    /** Returns what has come out so far, null before anything has; any thread may ask while the run goes on. */
    DenseLog.Outcome outcome() {
        return log == null ? null : log.outcome();
    }

    /** Returns how a signal ended the run, or null. */
    Stopped stopped() {
        return stopped;
    }

    /** Runs, once; where {@code signals} asks any rank to, it ends after the step at hand, with a checkpoint. */
    void run(StopRequest signals) {
        stop = signals;
        if (launched == null) {
            devices.run(settings.mesh().worldSize(), DEADLINE, this::train);
        } else {
            Map<String, String> terms = Map.of(
                    "training", settings.toString(),
                    "text", lesson.text() + ", " + feed,
                    "checkpoints", checkpointEvery + ", from " + resume);
            devices.run(launched, terms, DEADLINE, this::train);
        }
    }

    private void train(Communicator world) {
        try (DenseLog own = world.rank() == 0 && report != null ? log(world) : null;
                DenseRank rank = new DenseRank(dense, optimizer, world)) {
            if (own != null) {
                log = own;
            }
            try {
                train(rank, own);
            } catch (RuntimeException | Error e) {
                world.abort(e); // before this rank leaves its groups, in which the others would see no more than that
                throw e;
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private DenseLog log(Communicator world) {
        Device device = world.device();
        Double peak = peakFlops != null
                ? peakFlops
                : device.isCuda() ? Throughput.peakOf(Cuda.name(device), dense.type()) : null;
        return new DenseLog(
                report,
                new Throughput(
                        settings.tokens(), StepFlops.of(dense), settings.mesh().worldSize(), peak),
                MemoryLimit.bytes(dense),
                MemoryLimit.pinned(dense),
                new MemoryWatch(device),
                launched == null ? devices.ranksEach(settings.mesh().worldSize()) : 1,
                tensorboard);
    }

    private void train(DenseRank rank, DenseLog own) {
        long done = 0;
        if (resume == null) {
            rank.initialize(settings.seed());
        } else {
            done = Checkpoint.read(resume, rank);
        }
        if (own != null) {
            own.begin(done, settings.steps(), rank);
        }
        for (long step = done + 1; step <= settings.steps(); step++) {
            long start = System.nanoTime();
            long[][] tokens = feed.batch(settings.batch(), StepSeed.random(settings.seed(), step));
            DenseRank.Figures figures = rank.step(tokens);
            if (own != null) {
                own.add((System.nanoTime() - start) / 1e9, figures, rank);
            }
            boolean stops = rank.any(stop.isAsked());
            boolean regular = checkpointEvery > 0 && (step % checkpointEvery == 0 || step == settings.steps());
            Path checkpoint = stops || regular ? Checkpoint.write(runs, step, lesson, rank) : null;
            if (stops) {
                stopped = new Stopped(stop.isAsked() ? stop.exitCode() : INTERRUPTED, checkpoint);
                return;
            }
        }
    }
}
