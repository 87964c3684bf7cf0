package org.flashring.internal;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** What tells this process's host from others. */
public final class BootId {
    private static final Path FILE = Path.of("/proc/sys/kernel/random/boot_id");

    private BootId() {}

    /** Returns what all processes of this host say and no others do; empty if nobody can tell. */
    public static String read() {
        try {
            return Files.readString(FILE).strip();
        } catch (IOException e) {
            return "";
        }
    }
}
