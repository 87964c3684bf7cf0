package org.flashring.cli.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;

/** Both contenders on the same inputs, turn by turn, so that what disturbs the machine disturbs both. */
final class Contest {
    private static final int WARM_UP = 2;
    private static final long PAUSE_MILLIS = 10; // for the other's workers to go to sleep

    /**
     * One pass of one case.
     *
     * @param pass forward or backward
     * @param flops floating-point operations
     * @param flashRingMillis every timed run of this library
     * @param torchMillis every timed run of PyTorch
     * @param largestDifference largest |ours - theirs| over outputs or gradients
     */
    record Score(String pass, double flops, double[] flashRingMillis, double[] torchMillis, double largestDifference) {
        double flashRingMedian() {
            return Median.of(flashRingMillis);
        }

        double torchMedian() {
            return Median.of(torchMillis);
        }

        /** Returns how many times as fast as PyTorch this library is. */
        double ratio() {
            return torchMedian() / flashRingMedian();
        }
    }

    private Contest() {}

    /**
     * Returns the scores of forward and backward over {@code repeats} timed runs of each, after {@value #WARM_UP} to
     * warm up.
     *
     * @param budget nanoseconds after which no further run begins that would end later; the last one then counts, warm
     *     or not
     */
    @SuppressWarnings("try") // the scope frees PyTorch's tensors at its end
    static List<Score> run(BenchCase bench, int repeats, long budget) {
        try (PointerScope scope = new PointerScope()) {
            Inputs inputs = Inputs.draw(bench);
            try (FlashRingContender ours = new FlashRingContender(bench, inputs)) {
                TorchContender theirs = new TorchContender(bench, inputs);
                List<double[]> runs = new ArrayList<>();
                long start = System.nanoTime();
                long spent = 0;
                for (long longest = 0;
                        runs.isEmpty() || runs.size() < WARM_UP + repeats && spent + longest <= budget; ) {
                    runs.add(new double[] {
                        time(ours, Contender::forward), time(theirs, Contender::forward),
                        timeBackward(ours), timeBackward(theirs)
                    });
                    longest = Math.max(longest, System.nanoTime() - start - spent);
                    spent = System.nanoTime() - start;
                }
                List<double[]> timed = runs.subList(Math.min(WARM_UP, runs.size() - 1), runs.size());
                double[][] millis = IntStream.range(0, 4)
                        .mapToObj(i -> timed.stream().mapToDouble(run -> run[i]).toArray())
                        .toArray(double[][]::new);
                return List.of(
                        new Score(
                                "forward",
                                bench.forwardFlops(),
                                millis[0],
                                millis[1],
                                difference(List.of(ours.output()), List.of(theirs.output()))),
                        new Score(
                                "backward",
                                bench.backwardFlops(),
                                millis[2],
                                millis[3],
                                difference(ours.gradients(), theirs.gradients())));
            }
        }
    }

    private static double timeBackward(Contender contender) {
        contender.prepareBackward();
        return time(contender, Contender::backward);
    }

    private static double time(Contender contender, Consumer<Contender> pass) {
        pause();
        long start = System.nanoTime();
        pass.accept(contender);
        return (System.nanoTime() - start) / 1e6;
    }

    private static void pause() {
        try {
            Thread.sleep(PAUSE_MILLIS);
        } catch (InterruptedException e) {
            throw new IllegalStateException("interrupted", e);
        }
    }

    private static double difference(List<Tensor> ours, List<Tensor> theirs) {
        double largest = 0;
        for (int i = 0; i < ours.size(); i++) {
            Tensor difference =
                    ours.get(i).to(ScalarType.Double).sub(theirs.get(i).to(ScalarType.Double));
            largest = Math.max(largest, difference.abs().max().item_double());
        }
        return largest;
    }
}
