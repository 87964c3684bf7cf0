package org.flashring.sync;

import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.internal.Checks;
import org.flashring.internal.Made;
import org.flashring.kernel.HostDouble;

/**
 * The loss of a sharded batch, weighted by tokens: the mean over all targets of all ranks, not the mean of the ranks'
 * means, which is wrong as soon as shards differ in size or masking.
 *
 * <p>A rank backpropagates from (its sum of token losses) / {@link #totalTargets}; summing the gradients over ranks
 * then gives the gradient of the mean exactly, ranks without a target included.
 */
public final class TokenLoss implements AutoCloseable {
    private final Communicator communicator;
    private final HostDouble value;
    private final DeviceBuffer onDevice; // where the device adds; null on the host

    /** Makes the loss of the batches that the ranks of {@code communicator} share. */
    public TokenLoss(Communicator communicator) {
        this.communicator = Checks.notNull("communicator", communicator);
        Device device = communicator.device();
        try (Made made = new Made()) {
            this.value = made.add(new HostDouble());
            this.onDevice = device.isCuda() ? made.add(DeviceBuffer.allocate(device, Double.BYTES)) : null;
            made.keep();
        }
    }

    /**
     * Returns the number of targets over all ranks. Collective.
     *
     * @throws IllegalArgumentException if {@code localTargets} is negative, or there is no target on any rank
     * @throws IllegalStateException after close
     */
    public long totalTargets(long localTargets) {
        Checks.atLeast("localTargets", localTargets, 0);
        return Checks.atLeast("targets over all ranks", (long) sum(localTargets), 1);
    }

    /** Returns the mean loss over all ranks, given this rank's sum of token losses. Collective. */
    public double mean(double localLossSum, long totalTargets) {
        Checks.atLeast("totalTargets", totalTargets, 1);
        return sum(localLossSum) / totalTargets;
    }

    private double sum(double local) {
        if (value.isClosed()) {
            throw new IllegalStateException("the TokenLoss of rank " + communicator.rank() + " is closed");
        }
        value.set(local);
        if (onDevice == null) {
            communicator.allReduce(value.address(), 1, DType.FLOAT64);
        } else {
            onDevice.upload(value.pointer());
            communicator.allReduce(onDevice.address(), 1, DType.FLOAT64);
            communicator.synchronize();
            onDevice.download(value.pointer());
        }
        return value.get();
    }

    /** Frees the buffer. Closing twice is harmless; the communicator stays open. */
    @Override
    public synchronized void close() {
        value.close();
        if (onDevice != null) {
            onDevice.close();
        }
    }
}
