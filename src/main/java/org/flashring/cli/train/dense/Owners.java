package org.flashring.cli.train.dense;

import java.util.ArrayDeque;
import java.util.Deque;

/** What an object owns, closed in reverse. Until {@link #keep}, leaving a try statement closes it all. */
final class Owners implements AutoCloseable {
    private final Deque<AutoCloseable> owned;

    Owners() {
        this(new ArrayDeque<>());
    }

    private Owners(Deque<AutoCloseable> owned) {
        this.owned = owned;
    }

    /** Returns {@code made}, which is closed here. */
    <T extends AutoCloseable> T add(T made) {
        owned.push(made);
        return made;
    }

    /** Returns all that is owned, which this one then does not close. */
    Owners keep() {
        Owners kept = new Owners(new ArrayDeque<>(owned));
        owned.clear();
        return kept;
    }

    /** Closes all, also where one fails; the first failure is then thrown. */
    @Override
    public void close() {
        RuntimeException first = null;
        while (!owned.isEmpty()) {
            try {
                owned.pop().close();
            } catch (Exception e) {
                RuntimeException failure = e instanceof RuntimeException own ? own : new IllegalStateException(e);
                if (first == null) {
                    first = failure;
                } else {
                    first.addSuppressed(failure);
                }
            }
        }
        if (first != null) {
            throw first;
        }
    }
}
