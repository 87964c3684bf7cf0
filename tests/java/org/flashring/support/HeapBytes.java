package org.flashring.support;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;

/** What calls put on the Java heap. */
public final class HeapBytes {
    /** Few, so that most of what follows is interpreted: compiled code may hide small objects. */
    private static final int WARM_UP = 5;

    private static final int WINDOWS = 4;
    private static final int CALLS = 125;

    /** What one small object a call would come to. */
    public static final long OF_AN_OBJECT_A_CALL = 16L * CALLS;

    private HeapBytes() {}

    /**
     * Returns the least bytes that some number of calls in a row, always the same, have put on the heap: the machine
     * charges a thread now and then for compiling what it runs, but not in every row.
     */
    public static long of(Runnable call) {
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        for (int i = 0; i < WARM_UP; i++) {
            threads.getCurrentThreadAllocatedBytes(); // its own first call allocates
            call.run();
        }
        long least = Long.MAX_VALUE;
        for (int window = 0; window < WINDOWS; window++) {
            long before = threads.getCurrentThreadAllocatedBytes();
            for (int i = 0; i < CALLS; i++) {
                call.run();
            }
            least = Math.min(least, threads.getCurrentThreadAllocatedBytes() - before);
        }
        return least;
    }
}
