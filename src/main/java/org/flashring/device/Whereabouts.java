package org.flashring.device;

import java.util.function.LongToIntFunction;
import org.flashring.internal.Checks;
import org.flashring.internal.Cudart;

/** Where addresses lie, as far as CUDA can tell: a device pointer of another library looks like any other. */
final class Whereabouts {
    private static final Whereabouts CUDA = new Whereabouts(Cudart::deviceOf);
    private static final Whereabouts HOST_ALONE = new Whereabouts(address -> Device.HOST.ordinal());

    private final LongToIntFunction deviceOf;

    /** Asks {@code deviceOf} for the ordinal of the device that holds an address, -1 for the host's. */
    Whereabouts(LongToIntFunction deviceOf) {
        this.deviceOf = deviceOf;
    }

    /** Returns what CUDA says; where there is none all addresses are the host's. */
    static Whereabouts known() {
        return Cuda.isAvailable() ? CUDA : HOST_ALONE;
    }

    /** Returns the device that holds {@code address}. */
    Device of(long address) {
        return new Device(deviceOf.applyAsInt(address));
    }

    /** Throws if memory at {@code address} is said to be the host's, and a device holds it. */
    void requireHost(long address) {
        Device device = of(address);
        if (device.isCuda()) {
            throw Checks.broken(
                    "address",
                    "0x" + Long.toHexString(address) + " on " + device,
                    "lie on the host, or be given with its device");
        }
    }
}
