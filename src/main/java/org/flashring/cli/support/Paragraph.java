package org.flashring.cli.support;

import java.io.PrintWriter;

/** Text in lines of {@value #COLUMNS} columns at most. */
public final class Paragraph {
    private static final int COLUMNS = 120;

    private Paragraph() {}

    /** Prints {@code text}; words that do not fit into a line go on the next. */
    public static void print(PrintWriter out, String text) {
        StringBuilder line = new StringBuilder();
        for (String word : text.split(" ")) {
            if (line.length() + 1 + word.length() > COLUMNS) {
                out.println(line);
                line.setLength(0);
            }
            line.append(line.isEmpty() ? "" : " ").append(word);
        }
        out.println(line);
    }
}
