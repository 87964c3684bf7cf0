package org.flashring.comm.transport;

import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.flashring.DType;
import org.flashring.comm.Communicator;
import org.flashring.comm.Transfers;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Checks;

/**
 * The one communicator, over any transport: it checks arguments, lets one thread in, and numbers what is posted and
 * agreed on.
 */
public final class TransportCommunicator implements Communicator {
    private final Transport transport;
    private final Device device;
    private final int rank;
    private final int worldSize;
    private final Transfers[] batches = new Transfers[Transport.DEPTH]; // by ticket, round and round
    private final Collective collective;
    private final AtomicBoolean busy = new AtomicBoolean();
    private long posted; // tickets given, ever
    private long awaited; // of which these are done
    private long plans; // agreed on, or about to be
    private volatile boolean closed; // any thread may allocate

    /** Makes the communicator of a transport, which it closes. */
    public TransportCommunicator(Transport transport) {
        this.transport = transport;
        this.device = transport.device();
        this.rank = transport.rank();
        this.worldSize = transport.worldSize();
        this.collective = new Collective(worldSize);
        Arrays.setAll(batches, i -> new Transfers());
    }

    /** Returns what carries it, for a transport that is built on another; that one closes it instead. */
    public Transport transport() {
        return transport;
    }

    @Override
    public int rank() {
        return rank;
    }

    @Override
    public int worldSize() {
        return worldSize;
    }

    @Override
    public Device device() {
        return device;
    }

    @Override
    public OwnedMemory allocate(long bytes) {
        Checks.atLeast("bytes", bytes, 0);
        requireOpen();
        return transport.allocate(bytes);
    }

    @Override
    public void stream(long stream) {
        int current = enter();
        try {
            if (!device.isCuda() && stream != 0) {
                throw Checks.broken("stream", stream, "be 0 on the host");
            }
            transport.stream(stream);
        } finally {
            leave(current);
        }
    }

    @Override
    public void at(String phase, int step) {
        transport.at(phase, step);
    }

    @Override
    public void synchronize() {
        int current = enter();
        try {
            transport.synchronize();
        } finally {
            leave(current);
        }
    }

    @Override
    public long post(long send, long sendBytes, int to, long receive, long receiveBytes, int from) {
        TransferChecks.exchange(worldSize, send, sendBytes, to, receive, receiveBytes, from);
        int current = enter();
        try {
            return start(next().clear().send(send, sendBytes, to).receive(receive, receiveBytes, from));
        } finally {
            leave(current);
        }
    }

    @Override
    public long post(Transfers batch) {
        TransferChecks.batch(worldSize, batch);
        int current = enter();
        try {
            return start(next().set(batch));
        } finally {
            leave(current);
        }
    }

    /** Returns where the next batch is kept until it has been awaited. */
    private Transfers next() {
        if (posted - awaited == Transport.DEPTH) {
            throw new IllegalStateException("more than " + Transport.DEPTH + " exchanges posted without await");
        }
        return batch(posted);
    }

    private Transfers batch(long ticket) {
        return batches[(int) (ticket % Transport.DEPTH)];
    }

    private long start(Transfers batch) {
        transport.post(posted, batch);
        return posted++;
    }

    @Override
    public void await() {
        int current = enter();
        try {
            complete(posted);
        } finally {
            leave(current);
        }
    }

    @Override
    public void await(long ticket) {
        int current = enter();
        try {
            Checks.between("ticket", ticket, 0, posted - 1);
            complete(ticket + 1);
        } finally {
            leave(current);
        }
    }

    /**
     * Completes the tickets before {@code end}. What was sent comes last: peers may have to receive theirs first, to
     * send ours.
     */
    private void complete(long end) {
        for (long ticket = awaited; ticket < end; ticket++) {
            transport.receive(ticket, batch(ticket));
        }
        for (; awaited < end; awaited++) {
            transport.release(awaited, batch(awaited));
        }
    }

    @Override
    public void allGather(long send, long bytes, long receive) {
        TransferChecks.allGather(rank, worldSize, send, bytes, receive);
        int current = enter();
        try {
            transport.collective(collective.allGather(send, bytes, receive));
        } finally {
            leave(current);
        }
    }

    @Override
    public void allGather(long send, long[] bytes, long receive) {
        TransferChecks.allGather(rank, worldSize, send, bytes, receive);
        int current = enter();
        try {
            transport.collective(collective.allGather(send, bytes, receive));
        } finally {
            leave(current);
        }
    }

    @Override
    public void allToAll(long send, long bytes, long receive) {
        TransferChecks.allToAll(worldSize, send, bytes, receive);
        int current = enter();
        try {
            transport.collective(collective.allToAll(send, bytes, receive));
        } finally {
            leave(current);
        }
    }

    @Override
    public void allReduce(long data, long count, DType dtype) {
        TransferChecks.allReduce(data, count, dtype);
        int current = enter();
        try {
            transport.collective(collective.allReduce(data, count, dtype));
        } finally {
            leave(current);
        }
    }

    @Override
    public void reduceScatter(long send, long count, DType dtype, long receive) {
        TransferChecks.reduceScatter(rank, worldSize, send, count, dtype, receive);
        int current = enter();
        try {
            transport.collective(collective.reduceScatter(send, count, dtype, receive));
        } finally {
            leave(current);
        }
    }

    @Override
    public void reduceScatter(long send, long[] counts, DType dtype, long receive) {
        TransferChecks.reduceScatter(rank, worldSize, send, counts, dtype, receive);
        int current = enter();
        try {
            transport.collective(collective.reduceScatter(send, counts, dtype, receive));
        } finally {
            leave(current);
        }
    }

    @Override
    public void barrier() {
        int current = enter();
        try {
            transport.barrier();
        } finally {
            leave(current);
        }
    }

    @Override
    public void agree(Map<String, String> terms) {
        Checks.notNull("terms", terms);
        int current = enter();
        try {
            transport.agree(++plans, terms);
        } finally {
            leave(current);
        }
    }

    @Override
    public Communicator split(String name, int color, int key) {
        Checks.notNull("name", name);
        Checks.atLeast("color", color, 0);
        int current = enter();
        try {
            return new TransportCommunicator(transport.split(name, color, key));
        } finally {
            leave(current);
        }
    }

    @Override
    public void abort(Throwable cause) {
        Checks.notNull("cause", cause);
        transport.fail("failed: " + cause, cause);
    }

    @Override
    public void close() {
        if (!busy.compareAndSet(false, true)) {
            throw new IllegalStateException(
                    "another thread is inside the communicator of rank " + rank + "; abort ends its wait");
        }
        try {
            if (!closed) {
                closed = true;
                leaveGroup();
            }
        } finally {
            busy.set(false);
        }
    }

    private void leaveGroup() {
        if (posted > awaited) {
            transport.fail("left the group with " + (posted - awaited) + " exchanges posted but not awaited", null);
        }
        int current = CurrentDevice.enter(device);
        try {
            transport.close();
        } finally {
            CurrentDevice.leave(current);
        }
    }

    private void requireOpen() {
        if (closed) {
            throw new IllegalStateException("the communicator of rank " + rank + " is closed");
        }
    }

    /** Makes this thread the one inside, and the device its current one. Returns what {@link #leave} wants. */
    private int enter() {
        if (!busy.compareAndSet(false, true)) {
            throw new IllegalStateException(
                    "another thread is inside the communicator of rank " + rank + "; each thread needs its own");
        }
        try {
            requireOpen();
            transport.requireAlive();
            return CurrentDevice.enter(device);
        } catch (RuntimeException | Error e) {
            busy.set(false);
            throw e;
        }
    }

    private void leave(int current) {
        CurrentDevice.leave(current);
        busy.set(false);
    }
}
