package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import java.util.Arrays;
import org.flashring.comm.transport.Collective;
import org.flashring.comm.transport.Transport;
import org.flashring.internal.Native;

/**
 * Allocations that this process has shown to others and freed since, by number, until the ranks of one group have heard
 * of them. CUDA gives back what is freed once those who have it open have closed it.
 */
final class Freed {
    /** Numbers that are told at once. */
    static final int MOST = 7;

    /** Bytes of what a rank tells: how many numbers it has, and the first {@link #MOST} of them. */
    static final int LENGTH = (1 + MOST) * Long.BYTES;

    private final Transport control;
    private final ByteBuffer cards; // by rank
    private final long address;
    private final Collective meeting;
    private long[] numbers = new long[MOST];
    private int count;

    Freed(Transport control) {
        this.control = control;
        cards = Exports.direct(Math.multiplyExact(control.worldSize(), LENGTH));
        address = Native.address(cards);
        meeting = new Collective(control.worldSize());
    }

    /** Notes an allocation. */
    synchronized void add(long number) {
        if (count == numbers.length) {
            numbers = Arrays.copyOf(numbers, 2 * count);
        }
        numbers[count++] = number;
    }

    /** Writes what is to be told next at {@code at}, as told. */
    synchronized void write(ByteBuffer to, int at) {
        int told = Math.min(count, MOST);
        to.putLong(at, count);
        for (int i = 0; i < told; i++) {
            to.putLong(at + (1 + i) * Long.BYTES, numbers[i]);
        }
        System.arraycopy(numbers, told, numbers, 0, count - told);
        count -= told;
    }

    /** Returns how many numbers are told at {@code at}. */
    static int told(ByteBuffer from, int at) {
        return (int) Math.min(from.getLong(at), MOST);
    }

    /** Returns the {@code i}-th number told at {@code at}. */
    static long number(ByteBuffer from, int at, int i) {
        return from.getLong(at + (1 + i) * Long.BYTES);
    }

    /** Tells all ranks, which call this together; what they tell is then in {@link #cards}, {@link #LENGTH} a rank. */
    void exchange(String operation) {
        int own = control.rank() * LENGTH;
        write(cards, own);
        control.collective(meeting.meeting(operation, address + own, LENGTH, address));
    }

    ByteBuffer cards() {
        return cards;
    }

    /** Returns whether a rank has more to tell than it could in the last exchange; all ranks get the same answer. */
    boolean isMore() {
        for (int rank = 0; rank < control.worldSize(); rank++) {
            if (cards.getLong(rank * LENGTH) > MOST) {
                return true;
            }
        }
        return false;
    }
}
