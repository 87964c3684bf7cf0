package org.flashring.packaging;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.flashring.packaging.Program.Ending;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Eight JVMs started at once on an empty native cache, as a launcher of one process per GPU does. JavaCPP's cache alone
 * does not survive this. {@code mvn verify -Dit.test=ColdStartIT -Dflashring.coldStartTrials=20} repeats it.
 */
@Timeout(900)
class ColdStartIT {
    /** What each of them touches first. */
    private static final List<String> DOORS =
            List.of("buffer", "group", "table", "plan", "host", "threads", "buffer", "group");

    /** Time for eight JVMs to boot, before all touch the cache in the same millisecond. */
    private static final long BOOT_MILLIS = 2000;

    @TempDir
    Path folder;

    /**
     * The race itself strikes too seldom to count on; that nobody is at the cache without the lock can be seen every
     * time.
     */
    @Test
    void whateverIsTouchedFirstTheCacheIsTouchedUnderTheLock() throws Exception {
        Program program = Program.compile(Files.createDirectory(folder.resolve("classes")));
        Path cache = Files.createDirectory(folder.resolve("cache"));
        List<Process> processes = new ArrayList<>();
        try (FileChannel channel = FileChannel.open(
                        cache.resolve("flashring.lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
                FileLock lock = channel.lock()) {
            for (String door : DOORS) {
                processes.add(program.start(
                        cache,
                        folder.resolve("output" + processes.size()),
                        List.of(Program.CORE, Program.NATIVES),
                        door));
            }
            Thread.sleep(2 * BOOT_MILLIS);
            assertThat(lock.isValid()).isTrue();
            assertThat(processes).allMatch(Process::isAlive);
            try (Stream<Path> files = Files.walk(cache)) {
                assertThat(files.filter(file -> file.toString().endsWith(".so")))
                        .isEmpty();
            }
        } finally {
            for (int i = 0; i < processes.size(); i++) {
                Ending ending = Program.end(processes.get(i), folder.resolve("output" + i));
                assertThat(ending.status()).as(ending.output()).isZero();
            }
        }
    }

    @Test
    void eightJvmsShareAnEmptyCache() throws Exception {
        int trials = Integer.getInteger("flashring.coldStartTrials");
        Program program = Program.compile(Files.createDirectory(folder.resolve("classes")));
        List<String> failures = new ArrayList<>();
        for (int trial = 0; trial < trials; trial++) {
            Path cache = folder.resolve("cache" + trial);
            List<Process> processes = new ArrayList<>();
            List<Path> outputs = new ArrayList<>();
            String instant = Long.toString(System.currentTimeMillis() + BOOT_MILLIS);
            for (String door : DOORS) {
                Path output = folder.resolve("output" + trial + "." + outputs.size());
                outputs.add(output);
                processes.add(program.start(cache, output, List.of(Program.CORE, Program.NATIVES), door, instant));
            }
            for (int i = 0; i < DOORS.size(); i++) {
                Ending ending = Program.end(processes.get(i), outputs.get(i));
                if (ending.status() != 0) {
                    failures.add("trial " + trial + ", JVM " + i + " (" + DOORS.get(i) + " first), status "
                            + ending.status() + ": " + ending.output());
                }
            }
        }
        assertThat(failures).as("of %d trials", trials).isEmpty();
    }
}
