package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.function.Predicate;
import org.flashring.internal.Native;

/**
 * Allocations of other processes that this one has opened, each once. One that its process has freed is closed here, as
 * soon as that process says so, or shows another one in its place.
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
        boolean freed; // its process has said so
    }

    private final Opener opener;
    private Entry[] entries = new Entry[0];

    Imports(Opener opener) {
        this.opener = opener;
    }

    /**
     * Returns where the message of a letter from {@code process} lies here; 0 if it has no bytes. {@code untilIdle} is
     * run, without a lock, before anything is closed for it, and may throw to end this.
     */
    long address(int process, ByteBuffer letters, int at, Runnable untilIdle) {
        if (letters.getLong(at + Letter.BYTES) == 0) {
            return 0;
        }
        long number = letters.getLong(at + Letter.NUMBER);
        long offset = letters.getLong(at + Letter.OFFSET);
        Entry known = find(process, number);
        if (known == null) {
            if (takesPlace(process, letters, at)) {
                untilIdle.run();
            }
            known = open(process, number, letters, at);
        }
        return known.memory + offset;
    }

    private synchronized Entry find(int process, long number) {
        for (Entry entry : entries) {
            if (entry.process == process && entry.number == number) {
                return entry;
            }
        }
        return null;
    }

    /** Returns whether something must be closed before the allocation of a letter is opened. */
    private synchronized boolean takesPlace(int process, ByteBuffer letters, int at) {
        for (Entry entry : entries) {
            if (overlaps(entry, process, letters.getLong(at + Letter.BASE), letters.getLong(at + Letter.SIZE))) {
                return true;
            }
        }
        return false;
    }

    private static boolean overlaps(Entry entry, int process, long base, long size) {
        return entry.process == process && entry.base < base + size && base < entry.base + entry.size;
    }

    private synchronized Entry open(int process, long number, ByteBuffer letters, int at) {
        Entry opened = find(process, number); // by another thread
        if (opened != null) {
            return opened;
        }
        Entry entry = new Entry();
        entry.process = process;
        entry.number = number;
        entry.base = letters.getLong(at + Letter.BASE);
        entry.size = letters.getLong(at + Letter.SIZE);
        closeIf(other -> overlaps(other, process, entry.base, entry.size));
        entry.memory = opener.open(Native.address(letters) + at + Letter.HANDLE);
        entries = Arrays.copyOf(entries, entries.length + 1);
        entries[entries.length - 1] = entry;
        return entry;
    }

    private void closeIf(Predicate<Entry> gone) {
        Entry[] kept = new Entry[entries.length];
        int count = 0;
        for (Entry entry : entries) {
            if (gone.test(entry)) {
                opener.close(entry.memory);
            } else {
                kept[count++] = entry;
            }
        }
        entries = Arrays.copyOf(kept, count);
    }

    /**
     * Notes what {@code process} tells at {@code at} of {@code cards} that it has freed. Returns whether something is
     * to be closed.
     */
    synchronized boolean note(int process, ByteBuffer cards, int at) {
        boolean any = false;
        for (int i = Freed.told(cards, at) - 1; i >= 0; i--) {
            long number = Freed.number(cards, at, i);
            for (Entry entry : entries) {
                entry.freed |= entry.process == process && entry.number == number;
                any |= entry.freed;
            }
        }
        return any;
    }

    /** Closes what others have freed. */
    synchronized void closeFreed() {
        closeIf(entry -> entry.freed);
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
