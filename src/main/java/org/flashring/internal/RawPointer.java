package org.flashring.internal;

import org.bytedeco.javacpp.Pointer;

/** A JavaCPP pointer that can be moved to any address without a new object. */
final class RawPointer extends Pointer {
    RawPointer at(long address) {
        this.address = address;
        return this;
    }
}
