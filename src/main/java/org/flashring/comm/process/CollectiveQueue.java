package org.flashring.comm.process;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.Selector;
import org.flashring.DType;
import org.flashring.comm.transport.Collective;
import org.flashring.device.Device;
import org.flashring.device.HostBuffer;
import org.flashring.internal.Native;
import org.flashring.kernel.TensorMath;

/**
 * Collectives, on lanes of their own: the thread that calls moves everything itself. Each rank sends each other one a
 * header and its part; sums are taken in the order of ranks, so that they have the bits of a LocalGroup's.
 */
final class CollectiveQueue implements AutoCloseable {
    private static final int CHUNK = 8 << 10; // elements that are summed at once: those of several ranks fit a cache

    private final Seat seat;
    private final int world;
    private final Lane[] lanes; // by rank; null for this one
    private final Part[] parts; // of the others, in the order of ranks
    private final Waits waits;
    private final TensorMath math = new TensorMath(Device.HOST);
    private final Selector selector;
    private HostBuffer chunks; // of each rank, and their sum; made by the first reduction
    private String operation; // under way
    private long start; // when it began

    /** Takes the lanes over, which it closes. */
    CollectiveQueue(Seat seat, Lane[] lanes) throws IOException {
        this.seat = seat;
        this.lanes = lanes;
        world = lanes.length;
        parts = new Part[world - 1];
        waits = new Waits(seat, world);
        selector = Selector.open();
        for (int peer = 0, i = 0; peer < world; peer++) {
            if (lanes[peer] != null) {
                lanes[peer].register(selector);
                parts[i++] = new Part(peer, lanes[peer]);
            }
        }
    }

    /** Runs a collective to its end. */
    void run(Collective collective) {
        switch (collective.kind()) {
            case ALL_GATHER -> allGather(collective);
            case ALL_TO_ALL -> allToAll(collective);
            case ALL_REDUCE -> allReduce(collective);
            case REDUCE_SCATTER -> reduceScatter(collective);
        }
        seat.waits(null, 0);
    }

    private void allGather(Collective call) {
        begin(call.operation());
        int rank = seat.rank();
        for (Part part : parts) {
            long bytes = call.bytes(part.peer());
            part.begin(call, call.bytes(rank), bytes, part.peer());
            part.send(call.send(), call.bytes(rank));
            part.receive(call.receive() + call.offset(part.peer()), bytes);
        }
        if (call.send() != call.receive() + call.offset(rank)) {
            copy(call.receive() + call.offset(rank), call.send(), call.bytes(rank));
        }
        finish();
    }

    private void allToAll(Collective call) {
        begin(call.operation());
        int rank = seat.rank();
        for (Part part : parts) {
            long offset = call.offset(part.peer());
            part.begin(call, call.bytes(part.peer()), call.bytes(rank), rank);
            part.send(call.send() + offset, call.bytes(part.peer()));
            part.receive(call.receive() + offset, call.bytes(part.peer()));
        }
        copy(call.receive() + call.offset(rank), call.send() + call.offset(rank), call.bytes(rank));
        finish();
    }

    private void reduceScatter(Collective call) {
        begin(call.operation());
        int rank = seat.rank();
        for (Part part : parts) {
            part.begin(call, call.bytes(part.peer()), call.bytes(rank), rank);
            part.send(call.send() + call.offset(part.peer()), call.bytes(part.peer()));
        }
        sum(call.send() + call.offset(rank), call.receive(), call.bytes(rank), call.dtype());
        finish();
    }

    /** Each rank sums a share of all ranks, and sends the sum to all. */
    private void allReduce(Collective call) {
        begin(call.operation());
        int element = call.dtype().bytes();
        long count = call.bytes(0) / element;
        for (Part part : parts) {
            part.begin(call, call.bytes(0), call.bytes(0), seat.rank());
            part.send(call.send() + first(count, part.peer()) * element, share(count, part.peer()) * element);
        }
        long own = call.send() + first(count, seat.rank()) * element;
        long bytes = share(count, seat.rank()) * element;
        sum(own, own, bytes, call.dtype());
        finish();
        for (Part part : parts) {
            part.send(own, bytes);
            part.receive(call.send() + first(count, part.peer()) * element, share(count, part.peer()) * element);
        }
        finish();
    }

    /** Returns the first of {@code count} elements that a rank sums. */
    private long first(long count, int rank) {
        long share = (count + world - 1) / world;
        return Math.min(count, rank * share);
    }

    private long share(long count, int rank) {
        return first(count, rank + 1) - first(count, rank);
    }

    /** Sums {@code bytes} bytes of all ranks, this one's at {@code own}, as they come. */
    private void sum(long own, long target, long bytes, DType dtype) {
        if (chunks == null) {
            chunks = HostBuffer.allocate((world + 1L) * CHUNK * Double.BYTES);
        }
        int element = dtype.bytes();
        for (long done = 0; done < bytes; done += (long) CHUNK * element) {
            long count = Math.min(CHUNK, (bytes - done) / element);
            for (Part part : parts) {
                part.receive(chunk(part.peer()), count * element);
            }
            drive(false);
            add(own + done, target + done, count, dtype);
        }
    }

    private synchronized void add(long own, long target, long count, DType dtype) {
        seat.membership().check();
        DType wide = dtype.accumulator();
        long sums = chunk(world);
        for (int rank = 0; rank < world; rank++) {
            long from = rank == seat.rank() ? own : chunk(rank);
            if (rank == 0) {
                math.convert(sums, wide, from, dtype, count);
            } else {
                math.add(sums, wide, from, dtype, count);
            }
        }
        math.convert(target, dtype, sums, wide, count);
    }

    private long chunk(int number) {
        return chunks.address() + (long) number * CHUNK * Double.BYTES;
    }

    private synchronized void copy(long to, long from, long bytes) {
        seat.membership().check();
        math.copyBytes(to, from, bytes);
    }

    /** Returns once every rank has come here. */
    void barrier() {
        begin("barrier");
        for (Part part : parts) {
            part.begin(operation, 0, 0, -1);
        }
        finish();
        seat.waits(null, 0);
    }

    /** Returns what every rank gave to {@code name}, in the order of ranks. */
    byte[][] exchange(String name, byte[] own) {
        begin(name);
        ByteBuffer lengths = ByteBuffer.allocateDirect(world * Integer.BYTES).order(ByteOrder.nativeOrder());
        long address = Native.address(lengths);
        lengths.putInt(seat.rank() * Integer.BYTES, own.length);
        for (Part part : parts) {
            part.begin(name, 0, 0, -1);
            part.send(address + (long) seat.rank() * Integer.BYTES, Integer.BYTES);
            part.receive(address + (long) part.peer() * Integer.BYTES, Integer.BYTES);
        }
        finish();
        ByteBuffer[] given = new ByteBuffer[world];
        for (int rank = 0; rank < world; rank++) {
            given[rank] = ByteBuffer.allocateDirect(lengths.getInt(rank * Integer.BYTES));
        }
        given[seat.rank()].put(0, own);
        for (Part part : parts) {
            part.send(Native.address(given[seat.rank()]), own.length);
            part.receive(Native.address(given[part.peer()]), given[part.peer()].capacity());
        }
        finish();
        seat.waits(null, 0);
        byte[][] all = new byte[world][];
        for (int rank = 0; rank < world; rank++) {
            all[rank] = new byte[given[rank].capacity()];
            given[rank].get(0, all[rank]);
        }
        return all;
    }

    private void begin(String name) {
        operation = name;
        start = System.nanoTime();
    }

    /** Returns once everything has been sent and has come. */
    private void finish() {
        drive(true);
    }

    /** Moves all parts until everything has come, and, if {@code sendsToo}, has been sent. */
    private void drive(boolean sendsToo) {
        while (true) {
            String problem = null;
            synchronized (this) {
                seat.membership().check();
                advance();
                Part late = late(sendsToo);
                if (late == null) {
                    return;
                }
                seat.waits(operation, late.peer());
                problem = late.problem() != null
                        ? seat.sentence(late.problem())
                        : waits.problem(late.peer(), late.hasLeft(), late.hasFailed(), operation, start);
            }
            if (problem != null) {
                throw seat.fail(problem, null);
            }
            sleep();
        }
    }

    /** Moves all that can be moved at once, and asks to be woken for the rest. */
    private void advance() {
        do {
            while (step()) {
                // goes on
            }
            for (Part part : parts) {
                part.arm();
            }
        } while (step());
    }

    private boolean step() {
        boolean any = false;
        for (Part part : parts) {
            any |= part.step();
        }
        return any && !seat.membership().hasFailed();
    }

    private Part late(boolean sendsToo) {
        Part late = null;
        for (Part part : parts) {
            if (!part.hasReceived() || sendsToo && !part.hasSent() || part.hasFailed()) {
                late = late == null || part.problem() != null ? part : late;
            }
        }
        return late;
    }

    private void sleep() {
        try {
            selector.select(Lane.WAKE, waits.sleepMillis());
        } catch (IOException e) {
            throw seat.fail(seat.sentence("cannot wait for its peers: " + e.getMessage()), e);
        }
        if (Thread.currentThread().isInterrupted()) {
            throw seat.fail(seat.sentence("was interrupted in " + operation), new InterruptedException("interrupted"));
        }
    }

    /** Returns once nothing of the collectives is touched any more; the group has failed. */
    synchronized void settle() {
        if (selector.isOpen()) {
            for (Part part : parts) {
                part.lane().fail();
            }
            selector.wakeup();
        }
    }

    /** Says goodbye to the peers, and ends. */
    @Override
    public synchronized void close() {
        if (!seat.membership().hasFailed()) {
            Partings.say(lanes);
        }
        Partings.close(selector);
        for (Part part : parts) {
            part.lane().close();
        }
        math.close();
        if (chunks != null) {
            chunks.close();
        }
    }
}
