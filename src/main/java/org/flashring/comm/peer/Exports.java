package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.flashring.internal.Checks;
import org.flashring.internal.CudaIpc;
import org.flashring.internal.Native;

/** What this process shows of its device memory. Handles of the last allocations are kept: CUDA takes its time. */
final class Exports {
    private static final int KEPT = 64;

    private final ByteBuffer answer = direct(Long.BYTES);
    private final long answerAt = Native.address(answer);
    private final long[] numbers = new long[KEPT]; // of allocations; CUDA's begin at 1
    private final ByteBuffer handles = direct(KEPT * CudaIpc.HANDLE);
    private final long handlesAt = Native.address(handles);
    private int next; // the entry that is used next

    static ByteBuffer direct(int bytes) {
        return ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
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
        if (!CudaIpc.base(address, answerAt)) {
            throw Checks.broken("memory that is sent", "0x" + Long.toHexString(address), "lie on the device");
        }
        long base = answer.getLong(0);
        CudaIpc.size(address, answerAt);
        long size = answer.getLong(0);
        CudaIpc.number(address, answerAt);
        long number = answer.getLong(0);
        letters.putLong(at + Letter.OFFSET, address - base)
                .putLong(at + Letter.NUMBER, number)
                .putLong(at + Letter.BASE, base)
                .putLong(at + Letter.SIZE, size)
                .put(at + Letter.HANDLE, handles, entry(number, base) * CudaIpc.HANDLE, CudaIpc.HANDLE);
    }

    /** Returns which of {@link #handles} is that of an allocation. */
    private int entry(long number, long base) {
        for (int i = 0; i < KEPT; i++) {
            if (numbers[i] == number) {
                return i;
            }
        }
        int entry = next;
        numbers[entry] = 0;
        if (!CudaIpc.export(base, handlesAt + (long) entry * CudaIpc.HANDLE)) {
            throw Checks.broken(
                    "memory that is sent",
                    "0x" + Long.toHexString(base),
                    "be cudaMalloc's, which other processes can open; that of pools and of expandable segments they"
                            + " cannot");
        }
        numbers[entry] = number;
        next = (next + 1) % KEPT;
        return entry;
    }
}
