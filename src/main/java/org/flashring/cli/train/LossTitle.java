package org.flashring.cli.train;

import java.nio.file.Path;
import java.util.List;

/** What stands over a picture of losses. */
final class LossTitle {
    private static final int LONGEST_NAME = 60; // of what the width holds in the title's font

    private LossTitle() {}

    /** Returns a title that fits over the picture, however many texts there are and however long their names. */
    static String of(List<Path> text) {
        Path last = text.get(0).normalize().getFileName();
        String name = last == null || last.toString().isEmpty() ? text.get(0).toString() : last.toString();
        if (name.length() > LONGEST_NAME) {
            name = name.substring(0, LONGEST_NAME / 2) + "…" + name.substring(name.length() - LONGEST_NAME / 2);
        }
        return "Training loss on " + name + (text.size() == 1 ? "" : " and " + (text.size() - 1) + " more");
    }
}
