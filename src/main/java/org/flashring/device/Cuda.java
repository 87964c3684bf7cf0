package org.flashring.device;

import java.util.List;
import org.flashring.internal.Checks;
import org.flashring.internal.CudaPreset;
import org.flashring.internal.Cudart;
import org.flashring.internal.Native;

/** Whether this process can use CUDA devices, and if not, why. Asked once. */
public final class Cuda {
    private static volatile String cause; // null: nobody has asked yet

    private Cuda() {}

    private static String findCause() {
        return Native.deviceCount() == 0 ? Native.deviceCause() : CudaPreset.problem();
    }

    /** Returns whether there is at least one CUDA device that this process can use. */
    public static boolean isAvailable() {
        return unavailabilityCause().isEmpty();
    }

    /** Returns why {@link #isAvailable} is false; empty when it is true. */
    public static String unavailabilityCause() {
        if (cause == null) {
            cause = findCause();
        }
        return cause;
    }

    /** Returns the number of CUDA devices that this process can use. */
    public static int deviceCount() {
        return isAvailable() ? Native.deviceCount() : 0;
    }

    /**
     * Returns the model of {@code device}, as CUDA names it.
     *
     * @throws IllegalArgumentException if the device is the host or does not exist
     * @throws UnsupportedOperationException if there is no CUDA
     */
    public static String name(Device device) {
        return Cudart.name(requireCuda("device", device).ordinal());
    }

    /**
     * Returns the bytes of shared memory a block that the tiles of the mma kernels on {@code device} are made for: 99,
     * 163 or 227 KB, the most that the device, or {@code FLASHRING_CUDA_SHARED_MEMORY} from the environment, allows; 0
     * if kernels cannot run on it.
     *
     * @throws IllegalArgumentException if the device is the host or does not exist
     * @throws UnsupportedOperationException if there is no CUDA
     */
    public static int tileBytes(Device device) {
        return Native.deviceTiles(requireCuda("device", device).ordinal());
    }

    /**
     * Memory of a device, in bytes.
     *
     * @param free not in use by any process
     * @param total there is
     */
    public record MemoryFigures(long free, long total) {}

    /**
     * Returns the memory figures of {@code device} as they are now.
     *
     * @throws IllegalArgumentException if the device is the host or does not exist
     * @throws UnsupportedOperationException if there is no CUDA
     */
    public static MemoryFigures memory(Device device) {
        int previous = CurrentDevice.enter(requireCuda("device", device));
        try {
            long[] figures = Cudart.memoryInfo();
            return new MemoryFigures(figures[0], figures[1]);
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    /**
     * Returns {@code device} if it exists: the host, or a CUDA device of this process.
     *
     * @throws UnsupportedOperationException if it is a CUDA device and there is no CUDA; the message says why
     * @throws IllegalArgumentException if there is no device of that number
     */
    public static Device require(String name, Device device) {
        Checks.notNull(name, device);
        if (device.isCuda()) {
            if (!isAvailable()) {
                throw new UnsupportedOperationException(
                        name + " is " + device + "; CUDA is not available: " + unavailabilityCause());
            }
            Checks.between(name + ".ordinal", device.ordinal(), 0, deviceCount() - 1L);
        }
        return device;
    }

    /**
     * Returns the first CUDA device of this process whose memory {@code device} cannot read and write directly; null if
     * there is none.
     *
     * @throws IllegalArgumentException if the device is the host or does not exist
     * @throws UnsupportedOperationException if there is no CUDA
     */
    public static Device beyondReach(Device device) {
        requireCuda("device", device);
        for (int peer = 0; peer < deviceCount(); peer++) {
            if (peer != device.ordinal() && !Cudart.reaches(device.ordinal(), peer)) {
                return Device.cuda(peer);
            }
        }
        return null;
    }

    /**
     * Lets {@code device} reach the memory of its peers directly, where the machine can; else copies go through the
     * host.
     */
    public static void enablePeers(Device device, List<Device> peers) {
        int previous = CurrentDevice.enter(require("device", device));
        try {
            for (Device peer : peers) {
                if (device.isCuda() && peer.isCuda() && !peer.equals(device)) {
                    Cudart.enablePeer(device.ordinal(), peer.ordinal());
                }
            }
        } finally {
            CurrentDevice.leave(previous);
        }
    }

    static Device requireCuda(String name, Device device) {
        if (!Checks.notNull(name, device).isCuda()) {
            throw Checks.broken(name, device, "be a CUDA device");
        }
        return require(name, device);
    }
}
