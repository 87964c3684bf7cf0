package org.flashring.nd4j;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.data.Offset.offset;
import static org.assertj.core.data.Percentage.withPercentage;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.MatchResult;
import org.flashring.support.Examples;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Examples with ND4J, in its process. */
class Nd4jExamplesTest {
    @TempDir
    static Path classes;

    @BeforeAll
    static void compile() throws IOException {
        Examples.compile(
                List.of(Examples.FOLDER.resolve("Nd4jLayer.java"), Examples.FOLDER.resolve("Nd4jDocuments.java")),
                classes);
    }

    @Test
    void nd4jLayer() throws Exception {
        String output = Examples.run(classes, "Nd4jLayer");
        MatchResult found = Examples.lines(
                        output, "means of ones: (\\S+)\nsum of their gradients: (\\S+)\nmean after a step: (\\S+)", 1)
                .get(0);
        assertThat(Float.parseFloat(found.group(1))).isCloseTo(1, offset(1e-5f));
        assertThat(Float.parseFloat(found.group(2))).isCloseTo(8 * 100 * 64, offset(10f)); // ND4J sums in float32
        assertThat(Float.parseFloat(found.group(3))).isCloseTo(0.6f, offset(1e-4f));
    }

    @Test
    void documentsAreLearntAsOnNd4jsOwnAttention() throws Exception {
        assertLearnsAlike("2", "65", "25");
    }

    @Test
    @Tag("full")
    void longDocumentsAreLearntAsOnNd4jsOwnAttention() throws Exception {
        assertLearnsAlike("2", "513", "120");
    }

    private static void assertLearnsAlike(String ranks, String length, String steps) throws Exception {
        double own = learnt(1, "0", length, steps);
        assertThat(learnt(Integer.parseInt(ranks), ranks, length, steps)).isCloseTo(own, withPercentage(1));
    }

    /** Returns the held-out loss after training, which has fallen. */
    private static double learnt(int results, String... arguments) throws Exception {
        String output = Examples.run(classes, "Nd4jDocuments", arguments);
        List<MatchResult> lines =
                Examples.lines(output, "held-out loss: (\\S+) before, (\\S+) after \\d+ steps", results);
        double after = Double.parseDouble(lines.get(0).group(2));
        assertThat(after).isLessThan(0.8 * Double.parseDouble(lines.get(0).group(1)));
        return after;
    }
}
