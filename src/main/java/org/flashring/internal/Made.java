package org.flashring.internal;

import java.util.ArrayDeque;
import java.util.Deque;

/**
 * What a constructor has made so far: closed again, the last one first, if it cannot make the rest.
 *
 * <pre>{@code
 * try (Made made = new Made()) {
 *     this.block = made.add(OwnedMemory.allocate(device, bytes));
 *     this.math = made.add(new TensorMath(device));
 *     made.keep();
 * }
 * }</pre>
 */
public final class Made implements AutoCloseable {
    private final Deque<AutoCloseable> owners = new ArrayDeque<>();

    /** Returns {@code owner}, which will be closed unless all are kept. */
    public <T extends AutoCloseable> T add(T owner) {
        owners.push(owner);
        return owner;
    }

    /** Says that everything has been made. */
    public void keep() {
        owners.clear();
    }

    @Override
    public void close() {
        RuntimeException failure = null;
        while (!owners.isEmpty()) {
            try {
                owners.pop().close();
            } catch (Exception e) {
                failure = new IllegalStateException("cannot undo a constructor: " + e.getMessage(), e);
            }
        }
        if (failure != null) {
            throw failure;
        }
    }
}
