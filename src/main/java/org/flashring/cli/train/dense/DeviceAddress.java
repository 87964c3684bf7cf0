package org.flashring.cli.train.dense;

import org.bytedeco.javacpp.Pointer;

/** A pointer that can be moved to any address, so that calls make none. */
final class DeviceAddress extends Pointer {
    /** Returns this pointer, moved. */
    DeviceAddress at(long to) {
        address = to;
        return this;
    }
}
