package org.flashring.internal;

import org.bytedeco.javacpp.Pointer;

/** A JavaCPP pointer that can be moved to any address without a new object. */
public final class RawPointer extends Pointer {
    /** Returns this pointer, moved to {@code address}. */
    public RawPointer at(long address) {
        this.address = address;
        return this;
    }
}
