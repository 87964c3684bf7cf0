package org.flashring.internal;

import org.bytedeco.javacpp.Pointer;

/**
 * A native struct in memory of our own. JavaCPP refuses what it would allocate itself while the process is larger than a limit made
 * of the Java heap's, after seconds of collecting garbage; a few hundred bytes here need not wait for that. Close it: nobody
 * else frees it.
 */
abstract class Struct extends Pointer {
    /** Allocates the struct, cleared, and returns its size in bytes. */
    final int own() {
        int bytes = sizeof();
        address = Native.hostAllocate(bytes);
        if (address == 0) {
            throw new OutOfMemoryError("no host memory for a struct of " + bytes + " bytes");
        }
        Pointer.memset(this, 0, bytes);
        return bytes;
    }

    @Override
    public final void close() {
        Native.hostFree(address);
        setNull();
    }
}
