package org.flashring.packaging;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.flashring.packaging.Program.Ending;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Eight JVMs started at once on an empty native cache, as a launcher of one process per GPU does. JavaCPP's cache alone does not
 * survive this. {@code mvn verify -Dit.test=ColdStartIT -Dflashring.coldStartTrials=20} repeats it.
 */
@Timeout(900)
class ColdStartIT {
    /** What each of them touches first. */
    private static final List<String> DOORS = List.of("buffer", "group", "table", "plan", "host", "threads", "buffer", "group");

    @TempDir
    Path folder;

    @Test
    void eightJvmsShareAnEmptyCache() throws Exception {
        int trials = Integer.getInteger("flashring.coldStartTrials");
        Program program = Program.compile(Files.createDirectory(folder.resolve("classes")));
        List<String> failures = new ArrayList<>();
        for (int trial = 0; trial < trials; trial++) {
            Path cache = folder.resolve("cache" + trial);
            List<Process> processes = new ArrayList<>();
            List<Path> outputs = new ArrayList<>();
            for (String door : DOORS) {
                Path output = folder.resolve("output" + trial + "." + outputs.size());
                outputs.add(output);
                processes.add(program.start(cache, output, List.of(Program.CORE, Program.NATIVES), door));
            }
            for (int i = 0; i < DOORS.size(); i++) {
                Ending ending = Program.end(processes.get(i), outputs.get(i));
                if (ending.status() != 0) {
                    failures.add("trial " + trial + ", JVM " + i + " (" + DOORS.get(i) + " first), status " + ending.status() + ": " + ending.output());
                }
            }
        }
        assertThat(failures).as("of %d trials", trials).isEmpty();
    }
}
