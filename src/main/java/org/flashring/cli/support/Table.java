package org.flashring.cli.support;

import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;

/** Rows of text in columns: the first to the left, others to the right where the heading starts with a space. */
public final class Table {
    private final List<String[]> rows = new ArrayList<>();
    private final boolean[] right;
    private PrintWriter live;
    private int[] liveWidth;

    /** Makes a table under the given headings; one that starts with a space sets its column flush right. */
    public Table(String... headings) {
        right = new boolean[headings.length];
        String[] first = new String[headings.length];
        for (int i = 0; i < headings.length; i++) {
            right[i] = headings[i].startsWith(" ");
            first[i] = headings[i].strip();
        }
        rows.add(first);
    }

    /** Adds a row, one cell per heading. */
    public void row(Object... cells) {
        if (cells.length != right.length) {
            throw new IllegalArgumentException("cells.length is " + cells.length + "; it must be " + right.length);
        }
        String[] row = new String[cells.length];
        for (int i = 0; i < cells.length; i++) {
            row[i] = String.valueOf(cells[i]);
        }
        rows.add(row);
        if (live != null) {
            print(live, row, liveWidth);
        }
    }

    /**
     * Prints the headings now and every row as it is added, in columns of {@code width} or as wide as their heading.
     */
    public Table live(PrintWriter out, int... width) {
        live = out;
        liveWidth = width.clone();
        for (int i = 0; i < width.length; i++) {
            liveWidth[i] = Math.max(width[i], rows.get(0)[i].length());
        }
        print(out, rows.get(0), liveWidth);
        return this;
    }

    /** Prints the table, columns as wide as their widest cell. */
    public void print(PrintWriter out) {
        int[] width = new int[right.length];
        for (String[] row : rows) {
            for (int i = 0; i < row.length; i++) {
                width[i] = Math.max(width[i], row[i].length());
            }
        }
        for (String[] row : rows) {
            print(out, row, width);
        }
    }

    private void print(PrintWriter out, String[] row, int[] width) {
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < row.length; i++) {
            String padding = " ".repeat(Math.max(0, width[i] - row[i].length()));
            line.append(i == 0 ? "" : "  ").append(right[i] ? padding + row[i] : row[i] + padding);
        }
        out.println(line.toString().stripTrailing());
        out.flush();
    }

    /** Prints the table as Markdown. */
    public void printMarkdown(PrintWriter out) {
        for (int r = 0; r < rows.size(); r++) {
            out.println("| " + String.join(" | ", rows.get(r)) + " |");
            if (r == 0) {
                StringBuilder rule = new StringBuilder("|");
                for (boolean flush : right) {
                    rule.append(flush ? "---:|" : "---|");
                }
                out.println(rule);
            }
        }
    }
}
