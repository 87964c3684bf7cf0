package org.flashring.docs;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The tests that tables of faults and of traps name are there. */
class FaultTableTest {
    private static final Path TESTS = Path.of("tests/java/org/flashring");
    private static final Pattern NAMED = Pattern.compile("`(\\w+(?:Test|IT))(?:\\.(\\w+))?`");

    @ParameterizedTest
    @ValueSource(strings = {"docs/transports.md", "docs/traps.md"})
    void namesTestsThatThereAre(String page) throws IOException {
        Map<String, Path> files;
        try (Stream<Path> all = Files.walk(TESTS)) {
            files = all.filter(file -> file.toString().matches(".*(Test|IT)\\.java"))
                    .collect(Collectors.toMap(
                            file -> file.getFileName().toString().replace(".java", ""), file -> file, (a, b) -> a));
        }
        List<MatchResult> named =
                NAMED.matcher(Files.readString(Path.of(page))).results().toList();
        assertThat(named).hasSizeGreaterThan(40);
        for (MatchResult test : named) {
            assertThat(files).containsKey(test.group(1));
            if (test.group(2) != null) {
                assertThat(Files.readString(files.get(test.group(1))))
                        .as(test.group())
                        .contains(" void " + test.group(2) + "(");
            }
        }
    }
}
