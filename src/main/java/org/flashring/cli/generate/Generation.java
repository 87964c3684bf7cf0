package org.flashring.cli.generate;

import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import java.util.function.LongConsumer;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.Vocabulary;
import org.flashring.cli.train.dense.DenseDecoder;
import org.flashring.cli.train.dense.TrainedModel;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;

/**
 * A continuation of a prompt, on ranks that are threads of this JVM or processes.
 *
 * @param prompt bytes before; of those that make no whole token the first are left out
 * @param bytes that follow
 * @param page tokens of a page of the cache
 * @param window tokens that a token sees, itself included; 0 for all before it
 * @param temperature 0 for the likeliest token each time
 * @param seed of what is drawn
 */
record Generation(byte[] prompt, int bytes, int page, int window, double temperature, long seed) {
    private static final Duration DEADLINE = Duration.ofMinutes(30);

    /** Returns the tokens of the prompt, of a model of {@code vocabulary}. */
    int promptTokens(Vocabulary vocabulary) {
        return prompt.length / vocabulary.bytes();
    }

    /** Returns the tokens of prompt and continuation. */
    long tokens(Vocabulary vocabulary) {
        return promptTokens(vocabulary) + (bytes + vocabulary.bytes() - 1L) / vocabulary.bytes();
    }

    /** What came out, and how long the prompt and the rest took, in seconds. */
    record Outcome(byte[] text, double promptSeconds, double seconds) {}

    /**
     * Returns what follows, the same on all ranks.
     *
     * @param launched the processes that are the ranks; null if threads are
     * @param vocabulary the model's
     * @param written told the number of bytes after each token, on a thread of the run
     */
    Outcome run(TrainedModel model, Vocabulary vocabulary, int ranks, Launched launched, LongConsumer written) {
        if (launched == null) {
            return LocalGroup.run(
                            ranks,
                            DEADLINE,
                            group -> continued(model, vocabulary, group, group.rank() == 0 ? written : ignored -> {}))
                    .get(0);
        }
        Outcome[] outcome = new Outcome[1];
        Map<String, String> terms = Map.of(
                "model", model.model().toString(),
                "prompt", prompt.length + " bytes, " + Arrays.hashCode(prompt),
                "generation", bytes + " bytes, " + temperature + ", " + seed);
        launched.run(terms, DEADLINE, group -> outcome[0] = continued(model, vocabulary, group, written));
        return outcome[0];
    }

    private Outcome continued(TrainedModel model, Vocabulary vocabulary, Communicator ranks, LongConsumer written) {
        long start = System.nanoTime();
        byte[] text = new byte[bytes];
        Sampler sampler = new Sampler(temperature, seed);
        try (DenseDecoder decoder = new DenseDecoder(model, tokens(vocabulary), page, window, ranks)) {
            long[] input = new long[promptTokens(vocabulary)];
            int first = prompt.length % vocabulary.bytes();
            Arrays.setAll(
                    input, i -> vocabulary.token(at -> Byte.toUnsignedInt(prompt[at]), first + i * vocabulary.bytes()));
            double[] logits = decoder.next(input);
            double promptSeconds = (System.nanoTime() - start) / 1e9;
            int done = 0;
            while (true) {
                int token = sampler.choose(logits);
                for (int i = 0; i < vocabulary.bytes() && done < bytes; i++) {
                    text[done++] = vocabulary.byteOf(token, i);
                }
                written.accept(done);
                if (done == bytes) {
                    break;
                }
                logits = decoder.next(new long[] {token});
            }
            return new Outcome(text, promptSeconds, (System.nanoTime() - start) / 1e9 - promptSeconds);
        }
    }
}
