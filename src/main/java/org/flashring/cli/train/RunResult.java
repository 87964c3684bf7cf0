package org.flashring.cli.train;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;

/** What came of a run of at least one step, by whichever engine; result.json holds it. */
interface RunResult {
    List<Training.Step> steps();

    /** Returns how many steps had been done before the run, which went on from there. */
    long stepsBefore();

    /** Returns whether no check of the run failed. */
    boolean passed();

    /** Prints it for people. */
    void print(PrintWriter out);

    /**
     * Returns the pictures of it, which it writes into a folder; if one cannot be drawn here, {@code console} is told
     * why.
     */
    List<Path> draw(Path folder, PrintWriter console) throws IOException;
}
