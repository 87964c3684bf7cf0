package org.flashring.cli.train.dense;

import java.nio.file.Path;
import java.util.Map;

/**
 * What a run learns.
 *
 * @param text digest, in hexadecimal; null if that is not told
 * @param rows options that decide what the rows of steps are made of, by name; null if they are not told
 */
public record Lesson(String text, Map<String, String> rows) {
    private static final int BRIEF = 12; // digits of a digest

    /** Throws if the run of the checkpoint in {@code folder} learnt what is told to be something else. */
    void requireLearnt(Path folder, Lesson learnt) {
        if (learnt.text() != null && !learnt.text().equals(text)) {
            throw new IllegalArgumentException("--resume is " + folder + ", which learnt another text: its SHA-256"
                    + " is " + brief(learnt.text()) + ", that of --text " + brief(text)
                    + "; give the same text, or --other-text");
        }
        if (learnt.rows() != null) {
            rows.forEach((option, value) -> {
                String before = learnt.rows().getOrDefault(option, value);
                if (!before.equals(value)) {
                    throw new IllegalArgumentException("--resume is " + folder + ", which learnt with " + option + " "
                            + before + ", not " + value + "; give the same, or --other-text");
                }
            });
        }
    }

    private static String brief(String digest) {
        return digest.substring(0, Math.min(BRIEF, digest.length())) + "…";
    }
}
