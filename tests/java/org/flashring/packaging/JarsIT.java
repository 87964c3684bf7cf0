package org.flashring.packaging;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.InputStream;
import java.lang.module.ModuleDescriptor;
import java.lang.module.ModuleFinder;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What is in the jars, and what the native library asks of a machine. */
class JarsIT {
    private static final String DESCRIPTOR = "module-info.class";
    private static final String NATIVES = "org/flashring/internal/linux-x86_64/";

    private static List<String> files(Path jar) throws IOException {
        try (JarFile file = new JarFile(jar.toFile())) {
            return file.stream()
                    .filter(entry -> !entry.isDirectory())
                    .map(JarEntry::getName)
                    .toList();
        }
    }

    private static String moduleName(Path jar) {
        ModuleDescriptor module =
                ModuleFinder.of(jar).findAll().iterator().next().descriptor();
        assertThat(module.isAutomatic()).as(jar + " has no descriptor").isFalse();
        return module.name();
    }

    private static Path jar(String classifier) {
        String core = Program.CORE.getFileName().toString();
        return Program.CORE.resolveSibling(core.replace(".jar", "-" + classifier + ".jar"));
    }

    /** Entries have one time, or a build of the same sources would not give the same bytes. */
    @ParameterizedTest
    @ValueSource(strings = {"", "linux-x86_64", "cli", "djl", "nd4j", "pytorch", "sources", "javadoc"})
    void jarsTellTheLicenceAndNoTimeOfDay(String classifier) throws IOException {
        Path path = classifier.isEmpty() ? Program.CORE : jar(classifier);
        assertThat(files(path)).contains("META-INF/LICENSE", "META-INF/NOTICE");
        try (JarFile file = new JarFile(path.toFile())) {
            assertThat(file.stream()
                            .map(entry -> entry.getTimeLocal().toString())
                            .distinct())
                    .hasSize(1);
        }
    }

    @Test
    void sourcesAndJavadocAreOfTheLibrary() throws IOException {
        assertThat(files(jar("sources"))).contains("org/flashring/plan/Plan.java");
        assertThat(files(jar("javadoc")))
                .contains("org/flashring/plan/Plan.html", "org/flashring/plan/package-summary.html")
                .noneMatch(name -> name.startsWith("org/flashring/internal/") || name.startsWith("org/flashring/cli/"));
    }

    @Test
    void theCoreJarHoldsTheLibraryAlone() throws IOException {
        assertThat(moduleName(Program.CORE)).isEqualTo("org.flashring");
        assertThat(files(Program.CORE))
                .contains("org/flashring/attention/RingAttention.class", "org/flashring/comm/local/LocalGroup.class")
                .noneMatch(name -> name.startsWith("org/flashring/cli/") || name.startsWith("org/flashring/djl/"))
                .noneMatch(name -> name.endsWith(".so") || name.endsWith(".cpp") || name.endsWith("Test.class"))
                .allMatch(name ->
                        name.startsWith("org/flashring/") || name.startsWith("META-INF/") || name.equals(DESCRIPTOR));
    }

    @Test
    void theNativeJarHoldsBothLibraries() throws IOException {
        assertThat(moduleName(Program.NATIVES)).isEqualTo("org.flashring.natives");
        assertThat(files(Program.NATIVES))
                .contains(NATIVES + "libflashring.so", NATIVES + "libjniNative.so")
                .allMatch(name -> name.startsWith(NATIVES) || name.startsWith("META-INF/") || name.equals(DESCRIPTOR))
                .filteredOn(name -> name.endsWith(".class"))
                .containsExactly(DESCRIPTOR);
    }

    @Test
    void theNativeLibraryNeedsTheSystemAloneAndNoCuda() throws IOException {
        try (JarFile jar = new JarFile(Program.NATIVES.toFile());
                InputStream library = jar.getInputStream(jar.getEntry(NATIVES + "libflashring.so"))) {
            List<String> needed = needed(ByteBuffer.wrap(library.readAllBytes()).order(ByteOrder.LITTLE_ENDIAN));
            assertThat(needed)
                    .contains("libc.so.6")
                    .isSubsetOf(
                            "libc.so.6",
                            "libm.so.6",
                            "libstdc++.so.6",
                            "libgcc_s.so.1",
                            "libpthread.so.0",
                            "libdl.so.2",
                            "librt.so.1",
                            "ld-linux-x86-64.so.2");
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"libflashring.so", "libjniNative.so"})
    void theNativesNameNoFolderOfTheBuild(String name) throws IOException {
        String folder = Program.CORE.getParent().toAbsolutePath().toString();
        try (JarFile jar = new JarFile(Program.NATIVES.toFile());
                InputStream library = jar.getInputStream(jar.getEntry(NATIVES + name))) {
            assertThat(new String(library.readAllBytes(), StandardCharsets.ISO_8859_1).contains(folder))
                    .as("contains " + folder)
                    .isFalse();
        }
    }

    /**
     * glibc 2.28 is that of RHEL 8 and Debian 10. The build binds what it knows to older versions; a newer machine may
     * have more.
     */
    @ParameterizedTest
    @ValueSource(strings = {"libflashring.so", "libjniNative.so"})
    void theNativesServeOlderSystems(String name) throws Exception {
        Process getconf = new ProcessBuilder("getconf", "GNU_LIBC_VERSION").start();
        String here = new String(getconf.getInputStream().readAllBytes(), StandardCharsets.US_ASCII)
                .strip()
                .replace("glibc ", "");
        assumeTrue(minor(here) <= 36, "built against glibc " + here);
        try (JarFile jar = new JarFile(Program.NATIVES.toFile());
                InputStream library = jar.getInputStream(jar.getEntry(NATIVES + name))) {
            List<String> versions =
                    versions(ByteBuffer.wrap(library.readAllBytes()).order(ByteOrder.LITTLE_ENDIAN));
            assertThat(versions)
                    .contains("GLIBC_2.2.5")
                    .filteredOn(version -> version.startsWith("GLIBC_"))
                    .allMatch(version -> minor(version.substring("GLIBC_".length())) <= 28, "at most GLIBC_2.28");
        }
    }

    /** Returns the 28 of 2.28 or 2.28.1. */
    private static int minor(String version) {
        return Integer.parseInt(version.split("\\.")[1]);
    }

    /** Returns the versions that a 64-bit ELF file asks of its libraries: the entries of its version needs. */
    private static List<String> versions(ByteBuffer elf) {
        int versionNeeds = 0x6ffffffe;
        int sections = (int) elf.getLong(0x28);
        int sectionBytes = elf.getShort(0x3a);
        List<String> names = new ArrayList<>();
        for (int i = 0; i < elf.getShort(0x3c); i++) {
            int section = sections + i * sectionBytes;
            if (elf.getInt(section + 4) == versionNeeds) {
                int strings = (int) elf.getLong(sections + elf.getInt(section + 0x28) * sectionBytes + 0x18);
                int library = (int) elf.getLong(section + 0x18);
                for (int left = elf.getInt(section + 0x2c); left > 0; left--) {
                    int version = library + elf.getInt(library + 8);
                    for (int count = elf.getShort(library + 2); count > 0; count--) {
                        names.add(string(elf, strings + elf.getInt(version + 8)));
                        version += elf.getInt(version + 12);
                    }
                    library += elf.getInt(library + 12);
                }
            }
        }
        return names;
    }

    /** Returns the libraries that a 64-bit ELF file names as needed: the DT_NEEDED entries of its dynamic section. */
    private static List<String> needed(ByteBuffer elf) {
        int dynamicSection = 6;
        int neededTag = 1;
        int sections = (int) elf.getLong(0x28);
        int sectionBytes = elf.getShort(0x3a);
        List<String> names = new ArrayList<>();
        for (int i = 0; i < elf.getShort(0x3c); i++) {
            int section = sections + i * sectionBytes;
            if (elf.getInt(section + 4) == dynamicSection) {
                int strings = (int) elf.getLong(sections + elf.getInt(section + 0x28) * sectionBytes + 0x18);
                int start = (int) elf.getLong(section + 0x18);
                int end = start + (int) elf.getLong(section + 0x20);
                for (int entry = start; entry < end; entry += 16) {
                    if (elf.getLong(entry) == neededTag) {
                        names.add(string(elf, strings + (int) elf.getLong(entry + 8)));
                    }
                }
            }
        }
        return names;
    }

    private static String string(ByteBuffer elf, int start) {
        int end = start;
        while (elf.get(end) != 0) {
            end++;
        }
        byte[] bytes = new byte[end - start];
        elf.get(start, bytes);
        return new String(bytes, StandardCharsets.US_ASCII);
    }
}
