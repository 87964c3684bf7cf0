package org.flashring.cli.generate;

import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import java.util.function.LongConsumer;
import org.flashring.cli.support.Launched;
import org.flashring.cli.train.dense.DenseDecoder;
import org.flashring.cli.train.dense.TrainedModel;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;

/**
 * A continuation of a prompt by a model of bytes, on ranks that are threads of this JVM or processes.
 *
 * @param prompt bytes before
 * @param bytes that follow
 * @param page bytes of a page of the cache
 * @param window bytes that a byte sees, itself included; 0 for all before it
 * @param temperature 0 for the likeliest byte each time
 * @param seed of what is drawn
 */
record Generation(byte[] prompt, int bytes, int page, int window, double temperature, long seed) {
    private static final Duration DEADLINE = Duration.ofMinutes(30);

    /** What came out, and how long the prompt and the rest took, in seconds. */
    record Outcome(byte[] text, double promptSeconds, double seconds) {}

    /**
     * Returns what follows, the same on all ranks.
     *
     * @param launched the processes that are the ranks; null if threads are
     * @param written told the number of bytes after each, on a thread of the run
     */
    Outcome run(TrainedModel model, int ranks, Launched launched, LongConsumer written) {
        if (launched == null) {
            return LocalGroup.run(
                            ranks,
                            DEADLINE,
                            group -> continued(model, group, group.rank() == 0 ? written : ignored -> {}))
                    .get(0);
        }
        Outcome[] outcome = new Outcome[1];
        Map<String, String> terms = Map.of(
                "model", model.model().toString(),
                "prompt", prompt.length + " bytes, " + Arrays.hashCode(prompt),
                "generation", bytes + " bytes, " + temperature + ", " + seed);
        launched.run(terms, DEADLINE, group -> outcome[0] = continued(model, group, written));
        return outcome[0];
    }

    private Outcome continued(TrainedModel model, Communicator ranks, LongConsumer written) {
        long start = System.nanoTime();
        byte[] text = new byte[bytes];
        Sampler sampler = new Sampler(temperature, seed);
        try (DenseDecoder decoder = new DenseDecoder(model, (long) prompt.length + bytes, page, window, ranks)) {
            long[] input = new long[prompt.length];
            Arrays.setAll(input, i -> Byte.toUnsignedLong(prompt[i]));
            double[] logits = decoder.next(input);
            double promptSeconds = (System.nanoTime() - start) / 1e9;
            for (int i = 0; i < bytes; i++) {
                if (i > 0) {
                    logits = decoder.next(new long[] {Byte.toUnsignedLong(text[i - 1])});
                }
                text[i] = (byte) sampler.choose(logits);
                written.accept(i + 1L);
            }
            return new Outcome(text, promptSeconds, (System.nanoTime() - start) / 1e9 - promptSeconds);
        }
    }
}
