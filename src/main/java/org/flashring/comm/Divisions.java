package org.flashring.comm;

import java.util.LinkedHashMap;
import java.util.Map;
import org.flashring.internal.Checks;

/**
 * One rank's communicators in the groups that a world has been cut into so far: making them is dear, and batches come
 * in few kinds. One thread uses it.
 */
public final class Divisions implements AutoCloseable {
    private final Communicator world;
    private final Map<Division, Communicator> made = new LinkedHashMap<>();
    private boolean closed;

    /** Makes the keeper for a world, which stays the caller's to close. */
    public Divisions(Communicator world) {
        this.world = Checks.notNull("world", world);
    }

    /**
     * Returns this rank's communicator in its group; closing it is this object's task. The first call for a division is
     * collective over the world, later ones send nothing. All ranks ask for the same divisions in the same order.
     *
     * @throws IllegalArgumentException as {@link Division#split}
     * @throws IllegalStateException after close
     */
    public Communicator of(Division division) {
        if (closed) {
            throw new IllegalStateException("these Divisions are closed");
        }
        Communicator known = made.get(Checks.notNull("division", division));
        if (known == null) {
            known = division.split(world);
            made.put(division, known);
        }
        return known;
    }

    /** Leaves all groups. Closing twice is harmless. */
    @Override
    public void close() {
        closed = true;
        made.values().forEach(Communicator::close);
        made.clear();
    }
}
