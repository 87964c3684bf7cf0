package org.flashring.internal;

import java.lang.ref.Cleaner;
import org.bytedeco.javacpp.Pointer;

/**
 * A native struct in memory of our own. JavaCPP refuses what it would allocate itself while the process is larger than
 * a limit made of the Java heap's, after seconds of collecting garbage; a few hundred bytes here need not wait for
 * that. Closing twice is harmless.
 */
abstract class Struct extends Pointer {
    private static final Cleaner FORGOTTEN = Cleaner.create();

    private Cleaner.Cleanable memory;

    /** Allocates the struct, cleared, and returns its size in bytes. */
    final int own() {
        int bytes = sizeof();
        long allocated = Native.hostAllocate(bytes);
        if (allocated == 0) {
            throw new OutOfMemoryError("no host memory for a struct of " + bytes + " bytes");
        }
        address = allocated;
        memory = FORGOTTEN.register(this, () -> Native.hostFree(allocated));
        Pointer.memset(this, 0, bytes);
        return bytes;
    }

    @Override
    public final void close() {
        setNull();
        memory.clean();
    }
}
