package org.flashring.comm.peer;

import org.flashring.internal.CudaIpc;

/**
 * How one process tells another where a message lies: its fields' offsets in {@value #LENGTH} bytes of host memory. A
 * message of no bytes says no more than that.
 */
final class Letter {
    /** Bytes of the message. */
    static final int BYTES = 0;

    /** How far behind the allocation's beginning it lies. */
    static final int OFFSET = 8;

    /** What tells the allocation from all others of its process, past ones too. */
    static final int NUMBER = 16;

    /** Where the allocation begins in its own process. */
    static final int BASE = 24;

    /** Bytes of the allocation. */
    static final int SIZE = 32;

    /** What opens the allocation. */
    static final int HANDLE = 40;

    static final int LENGTH = HANDLE + CudaIpc.HANDLE;

    private Letter() {}
}
