package org.flashring.sync;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.device.Device;
import org.flashring.device.Event;
import org.flashring.device.OwnedMemory;
import org.flashring.device.Stream;
import org.flashring.internal.Checks;
import org.flashring.internal.Made;
import org.flashring.kernel.TensorMath;

/**
 * Sums gradients over ranks in buckets, as they become ready: small ones are packed together, large ones are summed
 * where they lie. Buckets run in one fixed order on every rank, from the last parameter to the first, the order in
 * which backward makes their gradients; each starts as soon as it is complete and those before it have started.
 *
 * <p>On a CUDA device sums run in a stream of this object's own, beside the rest of backward. Give it a communicator of
 * its own, {@code communicator.split(0, rank)}, so that they also run beside a ring's traffic.
 *
 * <pre>{@code
 * for (int i = parameters - 1; i >= 0; i--) sync.ready(i, addressOfGradient(i));
 * sync.finish();   // every gradient now holds the sum over ranks
 * }</pre>
 */
public final class GradientSync implements AutoCloseable {
    /** Bucket size that balances latency against overlap, as PyTorch's DDP chose: 25 MiB. */
    public static final long DEFAULT_BUCKET_BYTES = 25L << 20;

    /** Parameters [first, last], packed from byte {@code offset} on; alone in its bucket a parameter is not packed. */
    private record Bucket(int first, int last, long offset, long elements) {
        boolean isPacked() {
            return first < last;
        }
    }

    private final Communicator communicator;
    private final DType dtype;
    private final long[] counts;
    private final List<Bucket> buckets = new ArrayList<>();
    private final int[] bucketOf;
    private final long[] offsets; // of packed parameters
    private final int[] missing; // gradients each bucket still waits for
    private final long[] addresses; // of the gradients that are ready, else 0
    private final OwnedMemory packed;
    private final TensorMath combiner;
    private final Stream stream; // of the sums; null on the host
    private final Event mark;
    private int started; // buckets already summed

    /**
     * Makes the sync of {@code counts.length} gradients, the i-th of {@code counts[i]} contiguous elements.
     *
     * @param bucketBytes packed bucket size; parameters of at least that size are summed in place
     * @throws IllegalArgumentException if an argument is null, there is no parameter, or a size is not positive
     */
    public GradientSync(Communicator communicator, DType dtype, long[] counts, long bucketBytes) {
        this.communicator = Checks.notNull("communicator", communicator);
        this.dtype = Checks.notNull("dtype", dtype);
        this.counts = Checks.notNull("counts", counts).clone();
        Checks.atLeast("counts.length", counts.length, 1);
        Checks.atLeast("bucketBytes", bucketBytes, 1);
        this.bucketOf = new int[counts.length];
        this.offsets = new long[counts.length];
        this.addresses = new long[counts.length];
        long packedBytes = fillBuckets(bucketBytes);
        this.missing = new int[buckets.size()];
        Device device = communicator.device();
        try (Made made = new Made()) {
            this.packed = made.add(OwnedMemory.allocate(device, packedBytes));
            this.combiner = made.add(new TensorMath(device));
            this.stream = device.isCuda() ? made.add(Stream.create(device)) : null;
            this.mark = device.isCuda() ? made.add(Event.create(device)) : null;
            made.keep();
        }
        if (stream != null) {
            combiner.stream(stream.handle());
        }
        reset();
    }

    private long fillBuckets(long bucketBytes) {
        long offset = 0;
        int last = counts.length - 1;
        while (last >= 0) {
            int first = last;
            long bytes = bytes(last);
            while (first > 0 && bytes + bytes(first - 1) <= bucketBytes) {
                bytes += bytes(--first);
            }
            Bucket bucket = new Bucket(first, last, offset, bytes / dtype.bytes());
            for (int i = first; i <= last; i++) {
                bucketOf[i] = buckets.size();
                offsets[i] = offset;
                offset += bucket.isPacked() ? bytes(i) : 0;
            }
            buckets.add(bucket);
            last = first - 1;
        }
        return offset;
    }

    private long bytes(int parameter) {
        return Checks.product(
                "bytes", Checks.atLeast("counts[" + parameter + "]", counts[parameter], 1), dtype.bytes());
    }

    /** Returns the number of buckets. */
    public int buckets() {
        return buckets.size();
    }

    /**
     * Notes that the gradient of {@code parameter} is complete at {@code address}, where it must stay until
     * {@link #finish}. Sums the buckets whose turn has come; collective in that sense.
     *
     * @throws IllegalArgumentException if there is no such parameter, or the address is null or not aligned to the type
     * @throws IllegalStateException if the parameter was ready before, or after close
     */
    public void ready(int parameter, long address) {
        ready(parameter, address, 0);
    }

    /**
     * As {@link #ready(int, long)}, the gradient being complete after the work that a stream has been given so far.
     *
     * @param caller {@code cudaStream_t} of the communicator's device, or 0 for the default stream, the only one of the
     *     host
     */
    public void ready(int parameter, long address, long caller) {
        long buffer = packed.address(); // throws after close
        Checks.between("parameter", parameter, 0, counts.length - 1L);
        if (address <= 0 || address % dtype.bytes() != 0) {
            throw Checks.broken(
                    "address",
                    address,
                    "be that of " + counts[parameter] + " elements, a multiple of " + dtype.bytes());
        }
        if (addresses[parameter] != 0) {
            throw new IllegalStateException("gradient " + parameter + " was ready before; call finish first");
        }
        addresses[parameter] = address;
        if (stream != null) {
            mark.record(caller);
            stream.await(mark);
            communicator.stream(stream.handle());
        }
        Bucket bucket = buckets.get(bucketOf[parameter]);
        if (bucket.isPacked()) {
            combiner.copyBytes(buffer + offsets[parameter], address, bytes(parameter));
        }
        missing[bucketOf[parameter]]--;
        while (started < buckets.size() && missing[started] == 0) {
            Bucket next = buckets.get(started++);
            long data = next.isPacked() ? buffer + next.offset() : addresses[next.first()];
            communicator.allReduce(data, next.elements(), dtype);
        }
    }

    /**
     * Completes the sums: every gradient then holds its sum over ranks, and the next round may begin.
     *
     * @throws IllegalStateException if a gradient was not ready; the message says which; or after close
     */
    public void finish() {
        finish(0);
    }

    /** As {@link #finish()}, for the later work of a stream: {@code caller} is as in ready. The host does not wait. */
    public void finish(long caller) {
        long buffer = packed.address(); // throws after close
        for (int i = 0; i < counts.length; i++) {
            if (addresses[i] == 0) {
                throw new IllegalStateException("gradient " + i + " of " + counts.length + " is not ready");
            }
        }
        for (int i = 0; i < counts.length; i++) {
            if (buckets.get(bucketOf[i]).isPacked()) {
                combiner.copyBytes(addresses[i], buffer + offsets[i], bytes(i));
            }
        }
        if (stream != null) {
            mark.record(stream.handle());
            Stream.wrap(communicator.device(), caller).await(mark);
        }
        reset();
    }

    private void reset() {
        Arrays.fill(addresses, 0);
        started = 0;
        for (int i = 0; i < missing.length; i++) {
            missing[i] = buckets.get(i).last() - buckets.get(i).first() + 1;
        }
    }

    /** Frees the buffers. Closing twice is harmless; the communicator stays open. */
    @Override
    public synchronized void close() {
        combiner.close();
        packed.close();
        if (stream != null) {
            stream.close();
            mark.close();
        }
    }
}
