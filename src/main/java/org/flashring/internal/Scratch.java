package org.flashring.internal;

/** Host memory of our own for the length of a call: what a foreign struct lies in. Closing twice is harmless. */
final class Scratch implements AutoCloseable {
    private long address;

    /** Allocates {@code bytes} bytes, not cleared. */
    Scratch(long bytes) {
        address = Native.hostAllocate(bytes);
        if (address == 0) {
            throw new OutOfMemoryError("no host memory for " + bytes + " bytes");
        }
    }

    /** Returns the address of the first byte. */
    long address() {
        return address;
    }

    @Override
    public void close() {
        if (address != 0) {
            Native.hostFree(address);
            address = 0;
        }
    }
}
