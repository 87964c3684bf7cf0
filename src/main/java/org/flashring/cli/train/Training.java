package org.flashring.cli.train;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.openblas.presets.openblas_nolapack;
import org.bytedeco.pytorch.global.torch;
import org.flashring.DType;
import org.flashring.cli.support.Launched;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;

/** A training run: one thread of this JVM, or one process, per rank, each with a replica of its own. */
final class Training {
    /**
     * A peer that fails ends all waits at once; one that is slow, as rank 0 when it also trains alone, is waited for.
     */
    private static final Duration DEADLINE = Duration.ofDays(1);

    /** A process may stop without ending. */
    private static final Duration DEADLINE_OF_PROCESSES = Duration.ofMinutes(30);

    /**
     * One optimizer step.
     *
     * @param loss mean over all bytes of the batch, in nats, before the step
     * @param lossOfOne the same on one rank, or null without comparison
     * @param seconds from the batch to the new parameters, comparison apart
     * @param residentBytes memory of the process after the step
     */
    record Step(double loss, Double lossOfOne, double seconds, long residentBytes) {}

    /**
     * What came out.
     *
     * @param parameters number of learnt values
     * @param steps in order
     * @param comparison with one rank, or null without it
     */
    record Outcome(long parameters, List<Step> steps, Comparison.Result comparison) {}

    private final Settings settings;
    private final Plan plan;
    private final Corpus corpus;
    private final boolean compare;
    private final Launched launched;
    private final Consumer<Step> listener;
    private final List<Step> steps = new ArrayList<>();
    private long parameters;
    private Comparison.Result comparison;

    /**
     * Prepares a run whose steps {@code listener} is told of as they are done, on a thread of the run.
     *
     * @param launched the processes that are the ranks; null if threads are
     */
    Training(Settings settings, Corpus corpus, boolean compare, Launched launched, Consumer<Step> listener) {
        this.settings = settings;
        this.plan = settings.plan(DType.FLOAT32, 0);
        this.corpus = corpus;
        this.compare = compare;
        this.launched = launched;
        this.listener = listener;
    }

    /** Returns the plan of rank 0, which has as many sequences as any. */
    Plan plan() {
        return plan;
    }

    /** Returns what has come out so far; any thread may ask while the run goes on. */
    synchronized Outcome outcome() {
        return new Outcome(parameters, List.copyOf(steps), comparison);
    }

    private synchronized void add(Step step, long learnt, Comparison.Result compared) {
        steps.add(step);
        parameters = learnt;
        comparison = compared;
    }

    /** Runs, once, and returns what came out. */
    Outcome run() {
        // Ranks are the parallelism: teams of threads inside PyTorch would fight over the cores that ranks and
        // attention fill.
        openblas_nolapack.blas_set_num_threads(1);
        if (launched == null) {
            LocalGroup.run(settings.mesh().worldSize(), DEADLINE, communicator -> {
                train(communicator);
                return null;
            });
        } else {
            launched.run(terms(), DEADLINE_OF_PROCESSES, this::train);
        }
        return outcome();
    }

    private Map<String, String> terms() {
        return Map.of("training", settings.toString(), "text", corpus.length() + " bytes");
    }

    private void train(Communicator communicator) {
        torch.set_num_threads(1); // this thread's alone
        boolean first = communicator.rank() == 0;
        try (Replica replica = new Replica(settings, DType.FLOAT32, communicator);
                Reference reference = first && compare ? new Reference(settings) : null) {
            Random random = new Random(settings.seed());
            for (int i = 1; i <= settings.steps(); i++) {
                long[][] tokens = corpus.batch(settings.batch(), settings.context(), random);
                long start = System.nanoTime();
                double loss = replica.backward(tokens);
                long backward = System.nanoTime();
                Double lossOfOne = reference == null ? null : reference.compare(i, tokens, replica, loss);
                long update = System.nanoTime();
                replica.update();
                if (first) {
                    double seconds = (backward - start + System.nanoTime() - update) / 1e9;
                    Step step = new Step(loss, lossOfOne, seconds, Pointer.physicalBytes());
                    add(
                            step,
                            replica.transformer().parameterCount(),
                            reference == null ? null : reference.comparison.result());
                    listener.accept(step);
                }
            }
        }
    }

    /** The same model on one rank, and in float64 there once that is asked for. */
    private static final class Reference implements AutoCloseable {
        private final Communicator alone = LocalGroup.single();
        private final Settings one;
        private final Replica replica;
        private final Comparison comparison = new Comparison();
        private Replica exact;

        Reference(Settings settings) {
            this.one = settings.withOneRank();
            this.replica = new Replica(one, DType.FLOAT32, alone);
        }

        double compare(int step, long[][] tokens, Replica sharded, double loss) {
            replica.copyParameters(sharded);
            double lossOfOne = replica.backward(tokens);
            comparison.add(
                    step,
                    loss,
                    lossOfOne,
                    sharded.transformer().parameters(),
                    replica.transformer().parameters(),
                    () -> exactly(tokens, sharded));
            return lossOfOne;
        }

        private List<Transformer.Parameter> exactly(long[][] tokens, Replica sharded) {
            if (exact == null) {
                exact = new Replica(one, DType.FLOAT64, alone);
            }
            exact.copyParameters(sharded);
            exact.backward(tokens);
            return exact.transformer().parameters();
        }

        @Override
        public void close() {
            if (exact != null) {
                exact.close();
            }
            replica.close();
            alone.close();
        }
    }
}
