package org.flashring.docs;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/**
 * Arrows between packages point one way: a package may use those of earlier rows alone, none of its own row but itself.
 */
class PackageOrderTest {
    private static final List<Path> SOURCES = List.of(
            Path.of("src/main/java"),
            Path.of("adapters/djl/src/main/java"),
            Path.of("adapters/nd4j/src/main/java"),
            Path.of("adapters/pytorch/src/main/java"));
    private static final String ROOT = "org.flashring";
    private static final List<List<String>> ROWS = List.of(
            List.of("internal"),
            List.of("device"),
            List.of(""),
            List.of("kernel"),
            List.of("plan"),
            List.of("comm"),
            List.of("comm.transport"),
            List.of("comm.local"),
            List.of("launch"),
            List.of("comm.nccl", "comm.process"),
            List.of("comm.peer"),
            List.of("attention"),
            List.of("sync"),
            List.of("serve"),
            List.of("djl", "nd4j", "pytorch"),
            List.of("cli.support"),
            List.of("cli.train.dense"),
            List.of("cli.bench", "cli.generate", "cli.info", "cli.launch", "cli.plan", "cli.train", "cli.verify"),
            List.of("cli"));

    private static final Pattern PACKAGE = Pattern.compile("(?m)^package ([\\w.]+);");
    private static final Pattern USE = Pattern.compile("\\b(org\\.flashring(?:\\.[a-z]\\w*)*)\\.[A-Z*]");
    private static final Pattern COMMENT_OR_STRING =
            Pattern.compile("\"(?:\\\\.|[^\"\\\\\n])*\"|(?s:/\\*.*?\\*/)|//[^\n]*");

    private record Arrow(String from, String to, String file) {}

    @Test
    void arrowsPointOneWay() throws IOException {
        assertThat(arrows().stream().filter(arrow -> row(arrow.from()) <= row(arrow.to())))
                .isEmpty();
    }

    @Test
    void everyRowHasPackages() throws IOException {
        Set<String> used = new TreeSet<>();
        arrows().forEach(arrow -> used.addAll(List.of(arrow.from(), arrow.to())));
        assertThat(used)
                .contains(
                        "internal",
                        "device",
                        "",
                        "kernel",
                        "plan",
                        "comm",
                        "attention",
                        "sync",
                        "djl",
                        "pytorch",
                        "nd4j",
                        "cli.support",
                        "cli");
    }

    private static List<Arrow> arrows() throws IOException {
        List<Arrow> arrows = new ArrayList<>();
        for (Path sources : SOURCES) {
            try (Stream<Path> files = Files.walk(sources)) {
                for (Path file : files.filter(path -> path.toString().endsWith(".java"))
                        .sorted()
                        .toList()) {
                    String code =
                            COMMENT_OR_STRING.matcher(Files.readString(file)).replaceAll(" ");
                    Matcher declared = PACKAGE.matcher(code);
                    assertThat(declared.find()).as(file.toString()).isTrue();
                    String from = withoutRoot(declared.group(1));
                    Matcher use = USE.matcher(code);
                    while (use.find()) {
                        String to = withoutRoot(use.group(1));
                        if (!to.equals(from)) {
                            arrows.add(
                                    new Arrow(from, to, sources.relativize(file).toString()));
                        }
                    }
                }
            }
        }
        return arrows;
    }

    private static String withoutRoot(String name) {
        return name.equals(ROOT) ? "" : name.substring(ROOT.length() + 1);
    }

    private static int row(String name) {
        for (int row = 0; row < ROWS.size(); row++) {
            if (ROWS.get(row).contains(name)) {
                return row;
            }
        }
        throw new AssertionError("package " + name + " has no row");
    }
}
