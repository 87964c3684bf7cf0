package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.flashring.internal.Checks;
import org.flashring.internal.CudaIpc;
import org.flashring.internal.Native;

/**
 * What this process shows of its device memory. Handles are kept, as CUDA takes its time to make them, until their
 * allocation is found to be gone, of which every group is told.
 */
final class Exports {
    /** What is known of this process's device memory. */
    interface Source {
        /** Returns where the allocation that {@code address} lies in begins; 0 if there is none. */
        long base(long address);

        /** Returns its bytes. */
        long size(long address);

        /** Returns a number that no other allocation of this process has ever had. */
        long number(long address);

        /** Puts what opens it at the host address {@code handle}. Returns whether other processes can. */
        boolean export(long base, long handle);
    }

    private final Source source;
    private final List<Freed> groups = new ArrayList<>();
    private long[] numbers = new long[16]; // of the allocations shown
    private long[] bases = new long[16];
    private ByteBuffer handles = direct(16 * CudaIpc.HANDLE);
    private int count;

    Exports(Source source) {
        this.source = source;
    }

    static ByteBuffer direct(int bytes) {
        return ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
    }

    /** Begins to tell a group of what is gone. */
    synchronized void add(Freed group) {
        groups.add(group);
    }

    synchronized void remove(Freed group) {
        groups.remove(group);
    }

    /**
     * Writes the letter of {@code bytes} bytes at {@code address}, at {@code at} of {@code letters}.
     *
     * @throws IllegalArgumentException if other processes cannot be shown that memory
     */
    synchronized void describe(long address, long bytes, ByteBuffer letters, int at) {
        letters.putLong(at + Letter.BYTES, bytes);
        if (bytes == 0) {
            return;
        }
        long base = source.base(address);
        if (base == 0) {
            throw Checks.broken("memory that is sent", "0x" + Long.toHexString(address), "lie on the device");
        }
        long number = source.number(address);
        int entry = entry(number, base); // which may move the handles
        letters.putLong(at + Letter.OFFSET, address - base)
                .putLong(at + Letter.NUMBER, number)
                .putLong(at + Letter.BASE, base)
                .putLong(at + Letter.SIZE, source.size(address))
                .put(at + Letter.HANDLE, handles, entry * CudaIpc.HANDLE, CudaIpc.HANDLE);
    }

    /** Returns which of {@link #handles} is that of an allocation. */
    private int entry(long number, long base) {
        for (int i = 0; i < count; i++) {
            if (numbers[i] == number) {
                return i;
            }
        }
        findFreed();
        makeRoom();
        if (!source.export(base, Native.address(handles) + (long) count * CudaIpc.HANDLE)) {
            throw Checks.broken(
                    "memory that is sent",
                    "0x" + Long.toHexString(base),
                    "be cudaMalloc's, which other processes can open; that of pools and of expandable segments they"
                            + " cannot");
        }
        numbers[count] = number;
        bases[count] = base;
        return count++;
    }

    private void makeRoom() {
        if (count == numbers.length) {
            numbers = Arrays.copyOf(numbers, 2 * count);
            bases = Arrays.copyOf(bases, 2 * count);
            handles = direct(2 * count * CudaIpc.HANDLE).put(0, handles, 0, count * CudaIpc.HANDLE);
        }
    }

    /** Looks which of the allocations shown are gone, and notes for every group to tell of them. */
    synchronized void findFreed() {
        int kept = 0;
        for (int i = 0; i < count; i++) {
            if (source.base(bases[i]) != 0 && source.number(bases[i]) == numbers[i]) {
                numbers[kept] = numbers[i];
                bases[kept] = bases[i];
                handles.put(kept * CudaIpc.HANDLE, handles, i * CudaIpc.HANDLE, CudaIpc.HANDLE);
                kept++;
            } else {
                for (int group = 0; group < groups.size(); group++) {
                    groups.get(group).add(numbers[i]);
                }
            }
        }
        count = kept;
    }
}
