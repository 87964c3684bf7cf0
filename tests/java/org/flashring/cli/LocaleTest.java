package org.flashring.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Numbers are the same in every locale: Arabic and Persian have digits of their own, German a comma, Turkish an I
 * without a dot.
 */
class LocaleTest {
    private static final List<String> TAGS = List.of("ar-EG", "fa-IR", "de-DE", "tr-TR");
    private static final List<String> LANGUAGES = List.of("en-US", "ar-EG", "fa-IR", "tr-TR");

    private final Locale before = Locale.getDefault();

    @TempDir
    private Path folder;

    @AfterEach
    void restore() {
        Locale.setDefault(before);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"plan --length 20000 --ranks 3 --memory 4G", "plan --length 64 --ranks 0", "train --help", "info"
            })
    void whatIsPrintedIsThatOfTheRoot(String command) {
        List<String> expected = inLocale(Locale.ROOT, command);
        assertThat(expected).isNotEmpty();
        for (String tag : TAGS) {
            assertThat(inLocale(Locale.forLanguageTag(tag), command)).as(tag).isEqualTo(expected);
        }
    }

    /** In JVMs of their own, because the JDK's font code warns without end under this one's -Xcheck:jni. */
    @Test
    void trainingPrintsWhatItDoesInEnglish() throws IOException, InterruptedException {
        Path text = Files.writeString(folder.resolve("text"), "all the keys go round ".repeat(100));
        List<Process> runs = new ArrayList<>();
        for (String tag : LANGUAGES) {
            runs.add(Cli.start(
                    List.of("-Duser.language=" + tag.substring(0, 2), "-Duser.country=" + tag.substring(3)),
                    Map.of(),
                    folder.resolve(tag),
                    folder.resolve(tag + ".err"),
                    "train",
                    "--text",
                    text.toString(),
                    "--out",
                    folder.resolve("out").toString(),
                    "--layers",
                    "1",
                    "--heads",
                    "2",
                    "--kv-heads",
                    "1",
                    "--dim",
                    "16",
                    "--batch",
                    "1",
                    "--steps",
                    "2",
                    "--context",
                    "150"));
        }
        for (int i = 0; i < LANGUAGES.size(); i++) {
            String tag = LANGUAGES.get(i);
            assertThat(runs.get(i).waitFor())
                    .as(Files.readString(folder.resolve(tag + ".err")))
                    .isZero();
            assertThat(repeatable(Files.readString(folder.resolve(tag))))
                    .as(tag)
                    .isNotEmpty()
                    .isEqualTo(repeatable(Files.readString(folder.resolve(LANGUAGES.get(0)))));
        }
    }

    /** Lines that tell of time. */
    @ParameterizedTest
    @ValueSource(strings = {"verify --case 2", "bench --length 61 --dim 8 --repeats 1 --dtype float32 --full"})
    void digitsAreThoseOfTheRoot(String command) {
        for (String tag : TAGS) {
            assertThat(inLocale(Locale.forLanguageTag(tag), command))
                    .as(tag)
                    .isNotEmpty()
                    .noneMatch(line -> line.matches(".*[\\p{Nd}&&[^0-9]].*"));
        }
    }

    private static List<String> inLocale(Locale locale, String command) {
        Locale.setDefault(locale);
        Cli run = Cli.run(command.split(" "));
        return repeatable(run.out() + run.err());
    }

    /** Returns the lines that do not tell of time or memory. */
    private static List<String> repeatable(String printed) {
        return printed.lines()
                .map(line -> line.replaceAll("[0-9,.]+ tokens/s", ""))
                .filter(line -> !line.startsWith("Memory"))
                .toList();
    }
}
