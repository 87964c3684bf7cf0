package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/**
 * The dense engine is an example of what the library is for: it uses what the module exports to all, and no PyTorch.
 */
class PublicApiTest {
    private static final Pattern EXPORT = Pattern.compile("(?m)^\\s*exports ([\\w.]+);");
    private static final Pattern USE = Pattern.compile("\\b((?:org|com|ai|me|sun)(?:\\.[a-z_]\\w*)+)\\.[A-Z]");

    @Test
    void usesExportedPackagesAlone() throws IOException {
        Set<String> allowed =
                new TreeSet<>(Set.of("org.flashring.cli.train.dense", "org.bytedeco.javacpp", "com.google.gson"));
        allowed.add("com.google.gson.annotations");
        for (String part : new String[] {"cublas", "cudart"}) {
            allowed.add("org.bytedeco.cuda." + part);
            allowed.add("org.bytedeco.cuda.global." + part);
        }
        Matcher export = EXPORT.matcher(Files.readString(Path.of("src/main/modules/org.flashring/module-info.java")));
        while (export.find()) {
            allowed.add(export.group(1));
        }
        Set<String> used = new TreeSet<>();
        try (Stream<Path> files = Files.list(Path.of("src/main/java/org/flashring/cli/train/dense"))) {
            for (Path file : files.toList()) {
                Matcher use = USE.matcher(Files.readString(file));
                while (use.find()) {
                    used.add(use.group(1));
                }
            }
        }
        assertThat(used)
                .contains("org.flashring.attention", "org.flashring.comm")
                .isSubsetOf(allowed);
    }
}
