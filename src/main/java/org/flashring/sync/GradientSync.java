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
import org.flashring.sync.Buckets.Bucket;

/**
 * Sums gradients over ranks in buckets, as they become ready: small ones are packed together, large ones are summed
 * where they lie. Buckets run in one fixed order on every rank, from the last parameter to the first, the order in
 * which backward makes their gradients; each starts as soon as it is complete and those before it have started.
 *
 * <p>The ranks are those that have the same parameters: in a {@link org.flashring.comm.Mesh} those of "dp x cp". On a
 * CUDA device sums run in a stream of this object's own, beside the rest of backward. Give it a communicator of its
 * own, {@code communicator.split(0, rank)}, so that they also run beside a ring's traffic.
 *
 * <pre>{@code
 * for (int i = parameters - 1; i >= 0; i--) sync.ready(i, addressOfGradient(i));
 * sync.finish();   // every gradient now holds the sum over ranks
 * }</pre>
 *
 * <p>With {@link Reduction#scatter} a rank has the sums of its {@link #owned} pieces alone, which is half the traffic:
 *
 * <pre>{@code
 * sync.finish();
 * for (Piece piece : sync.owned()) optimizer.update(piece);   // its state is for these elements alone
 * sync.gather(addressesOfParameters);                         // every rank now has all parameters
 * }</pre>
 */
public final class GradientSync implements AutoCloseable {
    /** Bucket size that balances latency against overlap, as PyTorch's DDP chose: 25 MiB. */
    public static final long DEFAULT_BUCKET_BYTES = 25L << 20;

    /** Elements [first, first + count) of a parameter. */
    public record Piece(int parameter, long first, long count) {}

    private final Communicator communicator;
    private final DType dtype;
    private final long[] counts;
    private final Reduction reduction;
    private final Buckets buckets;
    private final List<Piece> owned = new ArrayList<>();
    private final int[] missing; // gradients each bucket still waits for
    private final long[] addresses; // of the gradients that are ready, else 0
    private final OwnedMemory packed;
    private final TensorMath math;
    private final HostDivider divider; // null where the divisor is 1
    private final Stream stream; // of the sums; null on the host
    private final Event mark;
    private int started; // buckets already summed

    /** As the other constructor, with {@link Reduction#sum}. */
    public GradientSync(Communicator communicator, DType dtype, long[] counts, long bucketBytes) {
        this(communicator, dtype, counts, bucketBytes, Reduction.sum());
    }

    /**
     * Makes the sync of {@code counts.length} gradients, the i-th of {@code counts[i]} contiguous elements.
     *
     * @param bucketBytes packed bucket size; parameters of at least that size are summed in place
     * @param reduction what becomes of them
     * @throws IllegalArgumentException if an argument is null, there is no parameter, or a size is not positive
     * @throws UnsupportedOperationException if sums are to be divided on a CUDA device, where no kernel does that
     */
    public GradientSync(Communicator communicator, DType dtype, long[] counts, long bucketBytes, Reduction reduction) {
        this.communicator = Checks.notNull("communicator", communicator);
        this.dtype = Checks.notNull("dtype", dtype);
        this.counts = Checks.notNull("counts", counts).clone();
        this.reduction = Checks.notNull("reduction", reduction);
        Checks.atLeast("counts.length", counts.length, 1);
        Checks.atLeast("bucketBytes", bucketBytes, 1);
        for (int i = 0; i < counts.length; i++) {
            Checks.product("bytes", Checks.atLeast("counts[" + i + "]", counts[i], 1), dtype.bytes());
        }
        Device device = communicator.device();
        if (device.isCuda() && reduction.divisor() != 1) {
            throw new UnsupportedOperationException("reduction.divisor is " + reduction.divisor()
                    + "; on a CUDA device it must be 1: divide the loss by it before backward");
        }
        this.buckets = new Buckets(this.counts, bucketBytes / dtype.bytes(), communicator.worldSize());
        for (int i = 0; i < buckets.size(); i++) {
            owned.addAll(0, ownedOf(buckets.get(i)));
        }
        this.missing = new int[buckets.size()];
        this.addresses = new long[counts.length];
        try (Made made = new Made()) {
            this.packed =
                    made.add(OwnedMemory.allocate(device, Checks.product("bytes", buckets.packed(), dtype.bytes())));
            this.math = made.add(new TensorMath(device));
            this.divider = reduction.divisor() == 1 ? null : made.add(new HostDivider(reduction.divisor()));
            this.stream = device.isCuda() ? made.add(Stream.create(device)) : null;
            this.mark = device.isCuda() ? made.add(Event.create(device)) : null;
            made.keep();
        }
        if (stream != null) {
            math.stream(stream.handle());
        }
        reset();
    }

    private List<Piece> ownedOf(Bucket bucket) {
        if (reduction.scattered()) {
            return buckets.owned(bucket, communicator.rank());
        }
        List<Piece> whole = new ArrayList<>();
        for (int i = bucket.first(); i <= bucket.last(); i++) {
            whole.add(new Piece(i, 0, counts[i]));
        }
        return whole;
    }

    private long bytes(long elements) {
        return elements * dtype.bytes();
    }

    /** Returns the number of buckets. */
    public int buckets() {
        return buckets.size();
    }

    /** Returns the pieces whose sums this rank gets, in the order of the parameters; all of all without scattering. */
    public List<Piece> owned() {
        return List.copyOf(owned);
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
        requireAddress("address", address, parameter);
        if (addresses[parameter] != 0) {
            throw new IllegalStateException("gradient " + parameter + " was ready before; call finish first");
        }
        addresses[parameter] = address;
        follow(caller);
        int own = buckets.bucketOf(parameter);
        if (buckets.get(own).isPacked()) {
            math.copyBytes(buffer + bytes(buckets.offset(parameter)), address, bytes(counts[parameter]));
        }
        missing[own]--;
        while (started < buckets.size() && missing[started] == 0) {
            Bucket next = buckets.get(started++);
            reduce(next, next.isPacked() ? buffer + bytes(next.offset()) : addresses[next.first()]);
        }
    }

    private void requireAddress(String name, long address, int parameter) {
        if (address <= 0 || address % dtype.bytes() != 0) {
            throw Checks.broken(
                    name, address, "be that of " + counts[parameter] + " elements, a multiple of " + dtype.bytes());
        }
    }

    /** Makes this object's stream, where it has one, and the communicator work after a caller's. */
    private void follow(long caller) {
        if (stream != null) {
            mark.record(caller);
            stream.await(mark);
            communicator.stream(stream.handle());
        }
    }

    private void reduce(Bucket bucket, long data) {
        if (!reduction.scattered()) {
            communicator.allReduce(data, bucket.elements(), dtype);
            return;
        }
        int ranks = communicator.worldSize();
        long part = data + bytes(buckets.firstOf(bucket, communicator.rank()));
        if (bucket.elements() % ranks == 0) {
            communicator.reduceScatter(data, bucket.elements() / ranks, dtype, part);
        } else {
            communicator.reduceScatter(data, buckets.shares(bucket), dtype, part);
        }
    }

    /**
     * Completes the sums, and the next round may begin: what this rank owns, see {@link #owned}, then holds the sum
     * over ranks, divided as {@link Reduction} says. Without scattering that is every gradient on every rank; with it
     * other elements hold nothing of use.
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
        for (Piece piece : owned) {
            int parameter = piece.parameter();
            long target = addresses[parameter] + bytes(piece.first());
            if (buckets.get(buckets.bucketOf(parameter)).isPacked()) {
                math.copyBytes(target, buffer + bytes(buckets.offset(parameter) + piece.first()), bytes(piece.count()));
            }
            if (divider != null) {
                divider.divide(math, target, dtype, piece.count());
            }
        }
        lead(caller);
        reset();
    }

    /** Makes a caller's stream work after this object's. */
    private void lead(long caller) {
        if (stream != null) {
            mark.record(stream.handle());
            Stream.wrap(communicator.device(), caller).await(mark);
        }
    }

    /**
     * Gives every rank the pieces that others own of tensors as large as the gradients, such as parameters that each
     * owner has just updated; without scattering everybody has them, and nothing is sent. Collective, between rounds.
     *
     * @param tensors address of each, in the order of the parameters; of the gradients' type
     * @throws IllegalArgumentException unless there is one for each parameter, aligned to the type
     * @throws IllegalStateException if a gradient is ready and not finished, or after close
     */
    public void gather(long[] tensors) {
        gather(tensors, 0);
    }

    /** As {@link #gather(long[])}, after the earlier and before the later work of a stream, as in ready. */
    public void gather(long[] tensors, long caller) {
        long buffer = packed.address(); // throws after close
        Checks.equal("tensors.length", Checks.notNull("tensors", tensors).length, counts.length, "one per gradient");
        for (int i = 0; i < counts.length; i++) {
            requireAddress("tensors[" + i + "]", tensors[i], i);
            if (addresses[i] != 0) {
                throw new IllegalStateException("gradient " + i + " is ready; call finish first");
            }
        }
        if (!reduction.scattered()) {
            return;
        }
        follow(caller);
        for (Piece piece : owned) {
            int parameter = piece.parameter();
            if (buckets.get(buckets.bucketOf(parameter)).isPacked()) {
                math.copyBytes(
                        buffer + bytes(buckets.offset(parameter) + piece.first()),
                        tensors[parameter] + bytes(piece.first()),
                        bytes(piece.count()));
            }
        }
        for (int i = 0; i < buckets.size(); i++) {
            Bucket bucket = buckets.get(i);
            gather(bucket, bucket.isPacked() ? buffer + bytes(bucket.offset()) : tensors[bucket.first()]);
            for (int p = bucket.first(); p <= bucket.last() && bucket.isPacked(); p++) {
                math.copyBytes(tensors[p], buffer + bytes(buckets.offset(p)), bytes(counts[p]));
            }
        }
        lead(caller);
    }

    private void gather(Bucket bucket, long data) {
        long part = data + bytes(buckets.firstOf(bucket, communicator.rank()));
        long[] sizes = buckets.shares(bucket);
        if (bucket.elements() % sizes.length == 0) {
            communicator.allGather(part, bytes(sizes[0]), data);
        } else {
            communicator.allGather(part, Arrays.stream(sizes).map(this::bytes).toArray(), data);
        }
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
        math.close();
        packed.close();
        if (divider != null) {
            divider.close();
        }
        if (stream != null) {
            stream.close();
            mark.close();
        }
    }
}
