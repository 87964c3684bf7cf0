package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import java.util.Arrays;
import org.flashring.internal.Native;

/**
 * Allocations of other processes that this one has opened, each once. One whose place its process has given to another
 * allocation is gone there, and closed here.
 */
final class Imports implements AutoCloseable {
    /** How allocations are opened and closed, with the device current. */
    interface Opener {
        /** Returns where the allocation of the handle at a host address lies here. */
        long open(long handle);

        void close(long memory);
    }

    private static final class Entry {
        int process;
        long number;
        long base; // in its process
        long size;
        long memory; // here
    }

    private final Opener opener;
    private Entry[] entries = new Entry[0];

    Imports(Opener opener) {
        this.opener = opener;
    }

    /** Returns where the message of a letter from {@code process} lies here; 0 if it has no bytes. */
    synchronized long address(int process, ByteBuffer letters, int at) {
        if (letters.getLong(at + Letter.BYTES) == 0) {
            return 0;
        }
        long number = letters.getLong(at + Letter.NUMBER);
        long offset = letters.getLong(at + Letter.OFFSET);
        for (Entry entry : entries) {
            if (entry.process == process && entry.number == number) {
                return entry.memory + offset;
            }
        }
        return open(process, number, letters, at).memory + offset;
    }

    private Entry open(int process, long number, ByteBuffer letters, int at) {
        Entry entry = new Entry();
        entry.process = process;
        entry.number = number;
        entry.base = letters.getLong(at + Letter.BASE);
        entry.size = letters.getLong(at + Letter.SIZE);
        closeWhere(entry);
        entry.memory = opener.open(Native.address(letters) + at + Letter.HANDLE);
        entries = Arrays.copyOf(entries, entries.length + 1);
        entries[entries.length - 1] = entry;
        return entry;
    }

    /** Closes the allocations in whose place {@code entry} is. */
    private void closeWhere(Entry entry) {
        Entry[] kept = new Entry[entries.length];
        int count = 0;
        for (Entry other : entries) {
            boolean gone = other.process == entry.process
                    && other.base < entry.base + entry.size
                    && entry.base < other.base + other.size;
            if (gone) {
                opener.close(other.memory);
            } else {
                kept[count++] = other;
            }
        }
        entries = Arrays.copyOf(kept, count);
    }

    /** Returns the number of allocations that are open. */
    synchronized int count() {
        return entries.length;
    }

    @Override
    public synchronized void close() {
        for (Entry entry : entries) {
            opener.close(entry.memory);
        }
        entries = new Entry[0];
    }
}
