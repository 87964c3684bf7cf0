package org.flashring.comm.process;

import java.util.Locale;
import java.util.Map;
import org.flashring.internal.Checks;

/** What bytes go through between the processes of a {@link ProcessGroup}. */
public enum Medium {
    /** Shared memory between processes that see the same {@code /dev/shm}, sockets between others. */
    AUTO,
    /** Sockets alone. */
    SOCKETS;

    /** The variable that says which: auto or sockets. */
    public static final String VARIABLE = "FLASHRING_MEDIUM";

    /**
     * Returns what {@value #VARIABLE} says among {@code variables}, and AUTO where it is not set.
     *
     * @throws IllegalArgumentException if it says anything else
     */
    public static Medium of(Map<String, String> variables) {
        String value = variables.getOrDefault(VARIABLE, "").strip();
        for (Medium medium : values()) {
            if (value.isEmpty() || value.equals(medium.toString())) {
                return medium;
            }
        }
        throw Checks.broken(VARIABLE, "'" + value + "'", "be auto or sockets");
    }

    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }
}
