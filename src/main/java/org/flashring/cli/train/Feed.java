package org.flashring.cli.train;

import java.util.Arrays;
import java.util.Random;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.flashring.cli.support.Vocabulary;
import org.flashring.internal.Checks;

/** What a run's rows are made of: windows of its text, as tokens. */
final class Feed {
    private static final long SHORTEST_REPEATED = 4; // b of abab is predicted from the second a

    private final Corpus corpus;
    private final Vocabulary vocabulary;
    private final long[] documents;
    private final boolean repeat;

    /**
     * Makes rows of windows, one after the other.
     *
     * @param documents offsets of the windows in each row; {0, length} for one
     * @param repeat whether the second half of each window repeats the first
     * @throws IllegalArgumentException if a window is longer than the text, or none has a token to look up in its
     *     second half
     */
    Feed(Corpus corpus, Vocabulary vocabulary, long[] documents, boolean repeat) {
        this.corpus = corpus;
        this.vocabulary = vocabulary;
        this.documents = documents.clone();
        this.repeat = repeat;
        long longest = IntStream.range(1, documents.length)
                .mapToLong(i -> documents[i] - documents[i - 1])
                .max()
                .orElse(0);
        if (repeat && longest < SHORTEST_REPEATED) {
            throw Checks.broken(
                    "tokens of the longest document",
                    longest,
                    "be at least " + SHORTEST_REPEATED + " with --repeat, to have what can be looked up");
        }
        Checks.atLeast(
                "tokens of --text",
                tokens(corpus, vocabulary),
                IntStream.range(1, documents.length)
                        .map(i -> length(i - 1))
                        .max()
                        .orElse(0));
    }

    /** Returns how many tokens the text has room for; of an odd number of bytes the last is in other windows alone. */
    static int tokens(Corpus corpus, Vocabulary vocabulary) {
        return corpus.length() / vocabulary.bytes();
    }

    /** Returns the offsets of documents of {@code length} tokens, the last one shorter, in a row of {@code context}. */
    static long[] offsets(long context, long length) {
        long[] offsets =
                LongStream.iterate(0, at -> at < context, at -> at + length).toArray();
        offsets = Arrays.copyOf(offsets, offsets.length + 1);
        offsets[offsets.length - 1] = context;
        return offsets;
    }

    /** Returns the tokens that are read for a document; the rest repeats them. */
    private int length(int document) {
        int length = Math.toIntExact(documents[document + 1] - documents[document]);
        return repeat ? length - length / 2 : length;
    }

    /** Returns [rows][length] tokens, of windows that {@code random} chooses; equal seeds choose equal windows. */
    long[][] batch(int rows, Random random) {
        int bytes = vocabulary.bytes();
        long[][] batch = new long[rows][Math.toIntExact(documents[documents.length - 1])];
        for (long[] row : batch) {
            for (int document = 0; document + 1 < documents.length; document++) {
                int length = length(document);
                int start = random.nextInt(corpus.length() - length * bytes + 1);
                int first = (int) documents[document];
                for (int i = first; i < documents[document + 1]; i++) {
                    row[i] = i - first < length
                            ? vocabulary.token(corpus::at, start + (i - first) * bytes)
                            : row[i - length];
                }
            }
        }
        return batch;
    }

    /** Returns what makes windows into tokens. */
    @Override
    public String toString() {
        return vocabulary + ", documents of " + documents[1] + " tokens" + (repeat ? ", repeated" : "");
    }
}
