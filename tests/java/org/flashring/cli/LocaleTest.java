package org.flashring.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Numbers are the same in every locale: Arabic and Persian have digits of their own, German a comma, Turkish an I without a dot. */
class LocaleTest {
    private static final List<String> TAGS = List.of("ar-EG", "fa-IR", "de-DE", "tr-TR");

    private final Locale before = Locale.getDefault();
    @TempDir private Path folder;

    @AfterEach
    void restore() {
        Locale.setDefault(before);
    }

    @ParameterizedTest
    @ValueSource(strings = {"plan --length 20000 --ranks 3 --memory 4G", "plan --length 64 --ranks 0", "train --help", "info",
        "train --text TEXT --out OUT --layers 1 --heads 2 --kv-heads 1 --dim 16 --batch 1 --steps 2 --context 150"})
    void whatIsPrintedIsThatOfTheRoot(String words) throws IOException {
        Path text = Files.writeString(folder.resolve("text"), "all the keys go round ".repeat(100));
        String command = words.replace("TEXT", text.toString()).replace("OUT", folder.resolve("out").toString());
        List<String> expected = inLocale(Locale.ROOT, command);
        assertThat(expected).isNotEmpty();
        for (String tag : TAGS) {
            assertThat(inLocale(Locale.forLanguageTag(tag), command)).as(tag).isEqualTo(expected);
        }
    }

    /** Lines that tell of time. */
    @ParameterizedTest
    @ValueSource(strings = {"verify --case 2", "bench --length 61 --dim 8 --repeats 1 --dtype float32 --full"})
    void digitsAreThoseOfTheRoot(String command) {
        for (String tag : TAGS) {
            assertThat(inLocale(Locale.forLanguageTag(tag), command)).as(tag).isNotEmpty()
                    .noneMatch(line -> line.matches(".*[\\p{Nd}&&[^0-9]].*"));
        }
    }

    /** Returns the lines that do not tell of time or memory. */
    private static List<String> inLocale(Locale locale, String command) {
        Locale.setDefault(locale);
        Cli run = Cli.run(command.split(" "));
        return (run.out() + run.err()).lines().map(line -> line.replaceAll("[0-9,.]+ tokens/s", "")).filter(line -> !line.startsWith("Memory")).toList();
    }
}
