package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.flashring.cli.support.Vocabulary;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Rows are windows of the text, whatever a token is and however rows are cut. */
class FeedTest {
    private static final String TEXT = "abcdefghijklmnopqrstuvwxyz0"; // 27 bytes, each once

    @TempDir
    private Path folder;

    private Corpus corpus() throws IOException {
        return Corpus.read(List.of(Files.writeString(folder.resolve("text"), TEXT)));
    }

    private static String bytes(long[] row, int from, int to, Vocabulary vocabulary) {
        StringBuilder text = new StringBuilder();
        for (int i = from; i < to; i++) {
            text.append((char) (row[i] % 256));
            if (vocabulary == Vocabulary.PAIRS) {
                text.append((char) (row[i] / 256));
            }
        }
        return text.toString();
    }

    @Test
    void bytesAreTheWindowsOfOtherEngines() throws IOException {
        try (Corpus corpus = corpus()) {
            Feed feed = new Feed(corpus, Vocabulary.BYTES, new long[] {0, 9}, false);
            assertThat(feed.batch(5, new Random(4))).isDeepEqualTo(corpus.batch(5, 9, new Random(4)));
        }
    }

    @Test
    void pairsBeginAnywhereAndLoseNoByte() throws IOException {
        try (Corpus corpus = corpus()) {
            assertThat(Feed.tokens(corpus, Vocabulary.PAIRS)).isEqualTo(13);
            Feed feed = new Feed(corpus, Vocabulary.PAIRS, new long[] {0, 13}, false);
            Set<String> windows = new HashSet<>();
            for (long[] row : feed.batch(20, new Random(1))) {
                windows.add(bytes(row, 0, 13, Vocabulary.PAIRS));
            }
            assertThat(windows).containsExactlyInAnyOrder(TEXT.substring(0, 26), TEXT.substring(1));
            assertThatThrownBy(() -> new Feed(corpus, Vocabulary.PAIRS, new long[] {0, 14}, false))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("tokens of --text is 13; it must be at least 14");
        }
    }

    @Test
    void documentsAreWindowsOfTheirOwnWhoseSecondHalvesRepeatTheFirst() throws IOException {
        long[] offsets = Feed.offsets(40, 15);
        assertThat(offsets).containsExactly(0, 15, 30, 40);
        try (Corpus corpus = corpus()) {
            for (long[] row : new Feed(corpus, Vocabulary.PAIRS, offsets, true).batch(10, new Random(2))) {
                for (int document = 0; document < 3; document++) {
                    int from = (int) offsets[document];
                    int middle = from + (document < 2 ? 8 : 5);
                    String first = bytes(row, from, middle, Vocabulary.PAIRS);
                    assertThat(TEXT).contains(first);
                    assertThat(first).startsWith(bytes(row, middle, (int) offsets[document + 1], Vocabulary.PAIRS));
                }
            }
            new Feed(corpus, Vocabulary.BYTES, new long[] {0, 54}, true); // a window of 27 fits
            new Feed(corpus, Vocabulary.BYTES, new long[] {0, 4}, true);
            assertThatThrownBy(() -> new Feed(corpus, Vocabulary.BYTES, new long[] {0, 3, 5}, true))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("tokens of the longest document is 3; it must be at least 4 with --repeat");
        }
    }

    @Test
    void digestsTellTextsApart() throws IOException {
        try (Corpus corpus = corpus()) {
            assertThat(corpus.digest()).hasSize(64).isEqualTo(sha256(TEXT));
        }
        byte[] long1 = new byte[(1 << 24) + 5];
        new Random(1).nextBytes(long1);
        try (Corpus corpus = Corpus.read(List.of(Files.write(folder.resolve("long"), long1)))) {
            assertThat(corpus.digest()).isEqualTo(sha256(new String(long1, StandardCharsets.ISO_8859_1)));
        }
    }

    private static String sha256(String bytes) {
        try {
            byte[] digest = java.security.MessageDigest.getInstance("SHA-256")
                    .digest(bytes.getBytes(StandardCharsets.ISO_8859_1));
            return String.format("%064x", new java.math.BigInteger(1, digest));
        } catch (java.security.NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
