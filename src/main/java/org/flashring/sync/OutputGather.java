package org.flashring.sync;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.bytedeco.javacpp.Pointer;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.comm.Communicator;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Memory;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Checks;
import org.flashring.internal.Made;
import org.flashring.internal.RawPointer;
import org.flashring.kernel.TensorMath;

/**
 * Brings the shards of a sequence together again: outputs of a model, in the order of their positions, on every rank,
 * all of them or those of marked positions; and takes gradients back to the ranks whose tokens they belong to. For
 * losses that need a whole sequence in one place, as those of preferences and rewards do.
 *
 * <pre>{@code
 * try (OutputGather gather = OutputGather.of(cp, layout, DType.FLOAT32, 1, 1, dim)) {
 *     gather.forward(local, whole);        // [1, local length, 1, dim] of each rank -> [1, length, 1, dim] on all
 *     lossOf(whole, dwhole);
 *     gather.backwardOfOneLoss(dwhole, dlocal);
 * }
 * }</pre>
 *
 * <p>Only rows that are marked travel. On a CUDA device all work is queued in the order of a stream. Tensors may have
 * any strides. One thread uses it.
 */
public final class OutputGather implements AutoCloseable {
    private final Communicator communicator;
    private final DType dtype;
    private final long batch;
    private final long heads;
    private final long dim;
    private final long localLength;
    private final long rows;
    private final List<GatheredRows> parts = new ArrayList<>(); // of each rank
    private final long[] counts; // elements of each rank's part
    private final long[] bytes;
    private final long[] offsets; // of each part, in bytes
    private final OwnedMemory block; // the parts of all ranks, one behind the other
    private final OwnedMemory zeros; // a row
    private final TensorMath math;

    private OutputGather(
            Communicator communicator, Layout layout, Positions marked, DType dtype, long batch, long heads, long dim) {
        this.communicator = communicator;
        this.dtype = dtype;
        this.batch = batch;
        this.heads = heads;
        this.dim = dim;
        this.localLength = layout.localLength(communicator.rank());
        this.rows = marked.length();
        int ranks = communicator.worldSize();
        counts = new long[ranks];
        bytes = new long[ranks];
        offsets = new long[ranks];
        long width = Checks.product("elements", Checks.product("elements", batch, heads), dim);
        long total = 0;
        for (int rank = 0; rank < ranks; rank++) {
            parts.add(GatheredRows.of(layout.positions(rank), marked));
            counts[rank] = Checks.product("elements", width, parts.get(rank).rows());
            bytes[rank] = Checks.product("bytes", counts[rank], dtype.bytes());
            offsets[rank] = total;
            total = Checks.sum("bytes", total, bytes[rank]);
        }
        Device device = communicator.device();
        try (Made made = new Made()) {
            block = made.add(OwnedMemory.allocate(device, total));
            zeros = made.add(OwnedMemory.allocate(device, heads * dim * dtype.bytes()));
            math = made.add(new TensorMath(device));
            if (zeros instanceof DeviceBuffer buffer) {
                buffer.fill(0, 0);
            } else {
                Pointer.memset(new RawPointer().at(zeros.address()), 0, zeros.bytes());
            }
            made.keep();
        }
    }

    /**
     * Makes the gather of all rows.
     *
     * @param communicator of the ranks that share the sequence
     * @param layout which of them holds which positions
     * @param dtype element type of what is gathered
     * @param heads of each row, 1 for hidden states or logits
     * @param dim elements of each head
     * @throws IllegalArgumentException if an argument is null, a size is below 1, or the layout is not of as many ranks
     * @throws OutOfMemoryError if the buffer, as large as what is gathered, cannot be had
     */
    public static OutputGather of(
            Communicator communicator, Layout layout, DType dtype, long batch, long heads, long dim) {
        Checks.notNull("layout", layout);
        Positions all = Positions.contiguous(layout.start(), layout.length());
        return ofMarked(communicator, layout, all, dtype, batch, heads, dim);
    }

    /**
     * Makes the gather of the rows of some positions, in their order.
     *
     * @param marked the positions, the same on all ranks; none is allowed
     * @throws IllegalArgumentException as {@link #of}, or if the layout does not have a marked position
     */
    public static OutputGather ofMarked(
            Communicator communicator, Layout layout, Positions marked, DType dtype, long batch, long heads, long dim) {
        Checks.notNull("communicator", communicator);
        Checks.notNull("layout", layout);
        Checks.notNull("marked", marked);
        Checks.notNull("dtype", dtype);
        Checks.atLeast("batch", batch, 1);
        Checks.atLeast("heads", heads, 1);
        Checks.atLeast("dim", dim, 1);
        Checks.equal("layout.worldSize", layout.worldSize(), communicator.worldSize(), "the communicator's ranks");
        if (marked.length() > 0) {
            long end = layout.start() + layout.length();
            Checks.between("first marked position", marked.position(0), layout.start(), end - 1);
            Checks.between("last marked position", marked.position(marked.length() - 1), layout.start(), end - 1);
        }
        return new OutputGather(communicator, layout, marked, dtype, batch, heads, dim);
    }

    /** Returns the number of rows that are gathered from each row of the batch. */
    public long rows() {
        return rows;
    }

    /**
     * Sets {@code gathered} to the rows of all ranks, in the order of their positions. Collective.
     *
     * @param local this rank's rows, [batch, local length, heads, dim]
     * @param gathered [batch, rows(), heads, dim]
     * @throws IllegalArgumentException if a tensor has another shape, type or device
     * @throws IllegalStateException after close
     */
    public void forward(Tensor local, Tensor gathered) {
        forward(local, gathered, 0);
    }

    /** As {@link #forward(Tensor, Tensor)}, in the order of a stream; 0 is the default stream, the host's only one. */
    public void forward(Tensor local, Tensor gathered, long stream) {
        begin(stream);
        require("local", local, localLength, false);
        require("gathered", gathered, rows, true);
        int rank = communicator.rank();
        pack(rank, local, true);
        long own = block.address() + offsets[rank];
        if (Arrays.stream(bytes).allMatch(each -> each == bytes[0])) {
            communicator.allGather(own, bytes[rank], block.address());
        } else {
            communicator.allGather(own, bytes, block.address());
        }
        for (int peer = 0; peer < parts.size(); peer++) {
            unpack(peer, gathered, false);
        }
    }

    /**
     * Sets {@code dlocal} to the gradient of the sum of all ranks' losses: each rank's gradient of its own loss with
     * respect to what it gathered is summed over ranks and goes to the rows' owners; rows that were not gathered get 0.
     * Collective.
     *
     * @param dgathered this rank's gradient, [batch, rows(), heads, dim]
     * @param dlocal [batch, local length, heads, dim]
     * @throws IllegalArgumentException if a tensor has another shape, type or device
     * @throws IllegalStateException after close
     */
    public void backward(Tensor dgathered, Tensor dlocal) {
        backward(dgathered, dlocal, 0);
    }

    /** As {@link #backward(Tensor, Tensor)}, in the order of a stream. */
    public void backward(Tensor dgathered, Tensor dlocal, long stream) {
        begin(stream);
        require("dgathered", dgathered, rows, false);
        require("dlocal", dlocal, localLength, true);
        for (int peer = 0; peer < parts.size(); peer++) {
            pack(peer, dgathered, false);
        }
        int rank = communicator.rank();
        long own = block.address() + offsets[rank];
        if (Arrays.stream(counts).allMatch(each -> each == counts[0])) {
            communicator.reduceScatter(block.address(), counts[rank], dtype, own);
        } else {
            communicator.reduceScatter(block.address(), counts, dtype, own);
        }
        set(dlocal);
    }

    /**
     * Sets {@code dlocal} to this rank's rows of {@code dgathered}, which is the same on all ranks because they all
     * computed one and the same loss; rows that were not gathered get 0. Nothing is sent.
     */
    public void backwardOfOneLoss(Tensor dgathered, Tensor dlocal) {
        backwardOfOneLoss(dgathered, dlocal, 0);
    }

    /** As {@link #backwardOfOneLoss(Tensor, Tensor)}, in the order of a stream. */
    public void backwardOfOneLoss(Tensor dgathered, Tensor dlocal, long stream) {
        begin(stream);
        require("dgathered", dgathered, rows, false);
        require("dlocal", dlocal, localLength, true);
        pack(communicator.rank(), dgathered, false);
        set(dlocal);
    }

    private void begin(long stream) {
        block.address(); // throws after close
        communicator.stream(stream);
        math.stream(stream);
    }

    private void require(String name, Tensor tensor, long length, boolean written) {
        Checks.notNull(name, tensor);
        Checks.equal(name + ".batch", tensor.batch(), batch, "the batch that is gathered");
        Checks.equal(name + ".length", tensor.length(), length, "the rows of each row of the batch");
        Checks.equal(name + ".heads", tensor.heads(), heads, "the heads of a row");
        Checks.equal(name + ".dim", tensor.dim(), dim, "the elements of a head");
        if (tensor.dtype() != dtype) {
            throw Checks.broken(name + ".dtype", tensor.dtype(), "be " + dtype);
        }
        if (!tensor.memory().device().equals(communicator.device())) {
            throw Checks.broken(
                    name + ".device", tensor.memory().device(), "be " + communicator.device() + ", this rank's");
        }
        if (tensor.memory().isClosed()) {
            throw Checks.broken(name, "in memory that has been closed", "lie in memory that is open");
        }
        if (length > 0 && tensor.address() == 0) {
            throw Checks.broken(name, "at the null address", "point to memory");
        }
        if (written && !(tensor.memory().isWritable() && tensor.isInjective())) {
            throw Checks.broken(name, tensor, "be writable, no two indices sharing an element");
        }
    }

    /** Puts a rank's rows of {@code whole} into its part: of its own tokens, or of all that are gathered. */
    private void pack(int rank, Tensor whole, boolean local) {
        for (GatheredRows.Run run : parts.get(rank).runs()) {
            math.convert(packed(rank, run), rowsOf(whole, run, local));
        }
    }

    /** Puts a rank's part into the rows of {@code whole} that it belongs to. */
    private void unpack(int rank, Tensor whole, boolean local) {
        for (GatheredRows.Run run : parts.get(rank).runs()) {
            math.convert(rowsOf(whole, run, local), packed(rank, run));
        }
    }

    private Tensor packed(int rank, GatheredRows.Run run) {
        long row = heads * dim;
        Memory part = block.memory().slice(offsets[rank], bytes[rank]);
        long skipped = run.packed() * row * dtype.bytes();
        return Tensor.strided(
                part.slice(skipped, part.bytes() - skipped),
                dtype,
                batch,
                run.count(),
                heads,
                dim,
                parts.get(rank).rows() * row,
                row,
                dim);
    }

    private static Tensor rowsOf(Tensor whole, GatheredRows.Run run, boolean local) {
        long skipped = (local ? run.local() : run.gathered())
                * whole.strideLength()
                * whole.dtype().bytes();
        return Tensor.strided(
                whole.memory().slice(skipped, whole.memory().bytes() - skipped),
                whole.dtype(),
                whole.batch(),
                run.count(),
                whole.heads(),
                whole.dim(),
                whole.strideBatch(),
                (local ? run.localStep() : run.gatheredStep()) * whole.strideLength(),
                whole.strideHead());
    }

    /** Sets a tensor to this rank's part, and to 0 where rows were not gathered. */
    private void set(Tensor dlocal) {
        int rank = communicator.rank();
        if (localLength > parts.get(rank).rows()) {
            math.convert(dlocal, Tensor.strided(zeros.memory(), dtype, batch, localLength, heads, dim, 0, 0, dim));
        }
        unpack(rank, dlocal, true);
    }

    /** Frees the buffers. Closing twice is harmless; the communicator stays open. */
    @Override
    public void close() {
        math.close();
        zeros.close();
        block.close();
    }
}
