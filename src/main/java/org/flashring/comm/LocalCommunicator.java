package org.flashring.comm;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.flashring.DType;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;
import org.flashring.internal.Checks;

/** A rank of a {@link LocalGroup}: it copies from its peers' memory directly. */
final class LocalCommunicator implements Communicator {
    /** The type is part of what ranks must agree on. */
    private static final String[] ALL_REDUCE = perType("allReduce");
    private static final String[] REDUCE_SCATTER = perType("reduceScatter");

    private final LocalExchange exchange;
    private final int rank;
    private final int[] to = new int[LocalExchange.DEPTH];
    private final int[] from = new int[LocalExchange.DEPTH];
    private final long[] receive = new long[LocalExchange.DEPTH];
    private final long[] receiveBytes = new long[LocalExchange.DEPTH];
    private final long[] number = new long[LocalExchange.DEPTH]; // of each message posted, among all to the same rank
    private int posted;
    private final long[] received; // messages from each rank, ever
    private final LocalQueue queue;
    private final AtomicBoolean busy = new AtomicBoolean();
    private long plans; // agreed on, or about to be
    private boolean closed;

    LocalCommunicator(LocalExchange exchange, int rank, Device device) {
        this.exchange = exchange;
        this.rank = rank;
        this.received = new long[exchange.worldSize()];
        this.queue = new LocalQueue(device, exchange.worldSize());
        exchange.join(rank, queue);
    }

    private static String[] perType(String operation) {
        return Arrays.stream(DType.values()).map(dtype -> operation + " of " + dtype).toArray(String[]::new);
    }

    @Override
    public int rank() {
        return rank;
    }

    @Override
    public int worldSize() {
        return exchange.worldSize();
    }

    @Override
    public Device device() {
        return queue.device();
    }

    @Override
    public void stream(long stream) {
        int current = enter();
        try {
            if (!device().isCuda() && stream != 0) {
                throw Checks.broken("stream", stream, "be 0 on the host");
            }
            queue.stream(stream);
        } finally {
            leave(current);
        }
    }

    @Override
    public void at(String phase, int step) {
        exchange.at(rank, phase, step);
    }

    @Override
    public void synchronize() {
        int current = enter();
        try {
            queue.synchronize();
            exchange.requireAlive();
        } finally {
            leave(current);
        }
    }

    @Override
    public void post(long send, long sendBytes, int to, long receive, long receiveBytes, int from) {
        Ranges.exchange(worldSize(), send, sendBytes, to, receive, receiveBytes, from);
        int current = enter();
        try {
            if (posted == LocalExchange.DEPTH) {
                throw new IllegalStateException("more than " + LocalExchange.DEPTH + " exchanges posted without await");
            }
            number[posted] = exchange.put(rank, to, send, sendBytes, queue.posted(posted));
            this.to[posted] = to;
            this.from[posted] = from;
            this.receive[posted] = receive;
            this.receiveBytes[posted] = receiveBytes;
            posted++;
        } finally {
            leave(current);
        }
    }

    @Override
    public void await() {
        int current = enter();
        try {
            for (int i = 0; i < posted; i++) {
                long source = exchange.peek(from[i], rank, receiveBytes[i]);
                queue.receive(i, exchange.ready(from[i], rank), receive[i], source, receiveBytes[i]);
                exchange.take(from[i], rank, queue.received(from[i], received[from[i]]++));
            }
            for (int i = 0; i < posted; i++) {
                exchange.drained(rank, to[i]);
                queue.await(exchange.copied(rank, to[i], number[i]));
            }
            posted = 0;
        } finally {
            leave(current);
        }
    }

    @Override
    public void allGather(long send, long bytes, long receive) {
        Ranges.allGather(rank, worldSize(), send, bytes, receive);
        collective("allGather", send, bytes, () -> {
            for (int peer = 0; peer < worldSize(); peer++) {
                queue.copy(receive + peer * bytes, exchange.first(peer), bytes);
            }
        });
    }

    @Override
    public void allToAll(long send, long bytes, long receive) {
        Ranges.allToAll(worldSize(), send, bytes, receive);
        collective("allToAll", send, bytes, () -> {
            for (int peer = 0; peer < worldSize(); peer++) {
                queue.copy(receive + peer * bytes, exchange.first(peer) + rank * bytes, bytes);
            }
        });
    }

    @Override
    public void allReduce(long data, long count, DType dtype) {
        long bytes = Ranges.allReduce(data, count, dtype);
        collective(ALL_REDUCE[dtype.code()], data, bytes, () -> {
            long share = (count + worldSize() - 1) / worldSize(); // this rank alone touches its share, on all ranks
            long[] shares = addresses(rank * share * dtype.bytes());
            queue.sum(shares, shares, Math.min(share, count - rank * share), dtype);
        });
    }

    @Override
    public void reduceScatter(long send, long count, DType dtype, long receive) {
        long bytes = Ranges.reduceScatter(rank, worldSize(), send, count, dtype, receive);
        collective(REDUCE_SCATTER[dtype.code()], send, bytes, () -> {
            queue.sum(addresses(rank * bytes), new long[] {receive}, count, dtype);
        });
    }

    /** Returns the address of byte {@code offset} of what each rank published. */
    private long[] addresses(long offset) {
        long[] addresses = new long[worldSize()];
        for (int peer = 0; peer < addresses.length; peer++) {
            addresses[peer] = exchange.first(peer) + offset;
        }
        return addresses;
    }

    @Override
    public void barrier() {
        int current = enter();
        try {
            queue.synchronize();
            exchange.barrier(rank, "barrier");
        } finally {
            leave(current);
        }
    }

    @Override
    public void agree(Map<String, String> terms) {
        Checks.notNull("terms", terms);
        int current = enter();
        try {
            exchange.agree(rank, "agree on plan " + ++plans, terms);
        } finally {
            leave(current);
        }
    }

    @Override
    public Communicator split(int color, int key) {
        int current = enter();
        try {
            exchange.publish(rank, color, key);
            exchange.barrier(rank, "split");
            List<Integer> members = new ArrayList<>();
            for (int peer = 0; peer < worldSize(); peer++) {
                if (exchange.first(peer) == color) {
                    members.add(peer);
                }
            }
            members.sort(Comparator.<Integer>comparingLong(exchange::second).thenComparing(Comparator.naturalOrder()));
            if (members.get(0) == rank) {
                LocalExchange group = new LocalExchange(members.size(), exchange.deadlineNanos());
                exchange.adopt(group);
                for (int i = 0; i < members.size(); i++) {
                    exchange.give(members.get(i), new LocalCommunicator(group, i, exchange.queue(members.get(i)).device()));
                }
            }
            exchange.barrier(rank, "split");
            return (Communicator) exchange.takeGift(rank);
        } finally {
            leave(current);
        }
    }

    @Override
    public void abort(Throwable cause) {
        Checks.notNull("cause", cause);
        exchange.fail(rank, "failed: " + cause, cause);
    }

    @Override
    public void close() {
        if (!busy.compareAndSet(false, true)) {
            throw new IllegalStateException("another thread is inside the communicator of rank " + rank + "; abort ends its wait");
        }
        if (!closed) {
            closed = true;
            if (posted > 0) {
                exchange.fail(rank, "left the group with " + posted + " exchanges posted but not awaited", null);
            }
            exchange.leave(rank);
        }
        busy.set(false);
    }

    /** Publishes an address and a size, waits for all ranks, fails on all of them where sizes differ, copies, and waits again. */
    private void collective(String operation, long address, long bytes, Runnable copy) {
        int current = enter();
        try {
            exchange.publish(rank, address, bytes);
            queue.ready();
            exchange.barrier(rank, operation);
            for (int peer = 0; peer < worldSize(); peer++) {
                if (exchange.second(peer) != bytes) {
                    throw exchange.fail(rank, "calls " + operation + " with " + bytes + " bytes, rank " + peer + " with " + exchange.second(peer), null);
                }
            }
            exchange.beginCopy();
            try {
                for (int peer = 0; peer < worldSize(); peer++) {
                    queue.await(exchange.queue(peer).readyEvent());
                }
                copy.run();
                queue.done();
            } catch (RuntimeException | Error e) {
                exchange.endCopy();
                abort(e);
                throw e;
            }
            exchange.endCopy();
            exchange.barrier(rank, operation);
            for (int peer = 0; peer < worldSize(); peer++) {
                queue.await(exchange.queue(peer).doneEvent());
            }
        } finally {
            leave(current);
        }
    }

    /** Makes this thread the one inside, and the device its current one. Returns what {@link #leave} wants. */
    private int enter() {
        if (!busy.compareAndSet(false, true)) {
            throw new IllegalStateException("another thread is inside the communicator of rank " + rank + "; each thread needs its own");
        }
        try {
            if (closed) {
                throw new IllegalStateException("the communicator of rank " + rank + " is closed");
            }
            return CurrentDevice.enter(device());
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
