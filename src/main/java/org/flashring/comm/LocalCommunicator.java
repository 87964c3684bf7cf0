package org.flashring.comm;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.flashring.DType;
import org.flashring.device.HostBuffer;
import org.flashring.internal.Checks;
import org.flashring.internal.Combiner;

/** A rank of a {@link LocalGroup}: it reads its peers' memory directly. */
final class LocalCommunicator implements Communicator {
    /** Elements that a reduction sums at a time: small enough for a core's cache. */
    private static final int CHUNK = 16 * 1024;
    /** Exchanges that may be posted before an await. */
    private static final int POSTED = 8;

    private final LocalExchange exchange;
    private final int rank;
    private final int[] to = new int[POSTED];
    private final int[] from = new int[POSTED];
    private final long[] receive = new long[POSTED];
    private final long[] receiveBytes = new long[POSTED];
    private int posted;
    private final Combiner combiner = new Combiner();
    private HostBuffer sums; // made by the first reduction
    private boolean closed;

    LocalCommunicator(LocalExchange exchange, int rank) {
        this.exchange = exchange;
        this.rank = rank;
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
    public void post(long send, long sendBytes, int to, long receive, long receiveBytes, int from) {
        open();
        Checks.between("to", to, 0, worldSize() - 1L);
        Checks.between("from", from, 0, worldSize() - 1L);
        address("send", send, Checks.atLeast("sendBytes", sendBytes, 0));
        address("receive", receive, Checks.atLeast("receiveBytes", receiveBytes, 0));
        if (posted == POSTED) {
            throw new IllegalStateException("more than " + POSTED + " exchanges posted without await");
        }
        exchange.put(rank, to, send, sendBytes);
        this.to[posted] = to;
        this.from[posted] = from;
        this.receive[posted] = receive;
        this.receiveBytes[posted] = receiveBytes;
        posted++;
    }

    @Override
    public void await() {
        open();
        for (int i = 0; i < posted; i++) {
            long source = exchange.peek(from[i], rank, receiveBytes[i]);
            combiner.copyBytes(receive[i], source, receiveBytes[i]);
            exchange.take(from[i], rank);
        }
        for (int i = 0; i < posted; i++) {
            exchange.drained(rank, to[i]);
        }
        posted = 0;
    }

    @Override
    public void allGather(long send, long bytes, long receive) {
        open();
        address("send", send, Checks.atLeast("bytes", bytes, 0));
        address("receive", receive, Checks.product("received bytes", bytes, worldSize()));
        agree("allGather", send, bytes);
        for (int peer = 0; peer < worldSize(); peer++) {
            combiner.copyBytes(receive + peer * bytes, exchange.first(peer), bytes);
        }
        done("allGather");
    }

    @Override
    public void allToAll(long send, long bytes, long receive) {
        open();
        long total = Checks.product("sent bytes", Checks.atLeast("bytes", bytes, 0), worldSize());
        address("send", send, total);
        address("receive", receive, total);
        agree("allToAll", send, bytes);
        for (int peer = 0; peer < worldSize(); peer++) {
            combiner.copyBytes(receive + peer * bytes, exchange.first(peer) + rank * bytes, bytes);
        }
        done("allToAll");
    }

    @Override
    public void allReduce(long data, long count, DType dtype) {
        open();
        Checks.notNull("dtype", dtype);
        address("data", data, Checks.product("bytes", Checks.atLeast("count", count, 0), dtype.bytes()));
        agree("allReduce", data, count * dtype.bytes());
        long share = (count + worldSize() - 1) / worldSize(); // this rank alone touches its share, on all ranks
        long end = Math.min(count, (rank + 1) * share);
        for (long start = rank * share; start < end; start += CHUNK) {
            long length = Math.min(CHUNK, end - start);
            sum(start, length, dtype);
            for (int peer = 0; peer < worldSize(); peer++) {
                combiner.convert(exchange.first(peer) + start * dtype.bytes(), dtype, sums.address(), dtype.accumulator(), length);
            }
        }
        done("allReduce");
    }

    @Override
    public void reduceScatter(long send, long count, DType dtype, long receive) {
        open();
        Checks.notNull("dtype", dtype);
        long bytes = Checks.product("bytes", Checks.atLeast("count", count, 0), dtype.bytes());
        address("send", send, Checks.product("sent bytes", bytes, worldSize()));
        address("receive", receive, bytes);
        agree("reduceScatter", send, bytes);
        for (long start = 0; start < count; start += CHUNK) {
            long length = Math.min(CHUNK, count - start);
            sum(rank * count + start, length, dtype);
            combiner.convert(receive + start * dtype.bytes(), dtype, sums.address(), dtype.accumulator(), length);
        }
        done("reduceScatter");
    }

    /** Sums elements [start, start + length) of what every rank published, in rank order, into the scratch of sums. */
    private void sum(long start, long length, DType dtype) {
        if (sums == null) {
            sums = HostBuffer.allocate((long) CHUNK * Double.BYTES);
        }
        DType wide = dtype.accumulator();
        combiner.convert(sums.address(), wide, exchange.first(0) + start * dtype.bytes(), dtype, length);
        for (int peer = 1; peer < worldSize(); peer++) {
            combiner.add(sums.address(), wide, exchange.first(peer) + start * dtype.bytes(), dtype, length);
        }
    }

    @Override
    public void barrier() {
        open();
        exchange.barrier(rank, "barrier");
    }

    @Override
    public Communicator split(int color, int key) {
        open();
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
            for (int i = 0; i < members.size(); i++) {
                exchange.give(members.get(i), new LocalCommunicator(group, i));
            }
        }
        exchange.barrier(rank, "split");
        return (Communicator) exchange.takeGift(rank);
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            exchange.leave(rank);
            combiner.close();
            if (sums != null) {
                sums.close();
            }
        }
    }

    /** Publishes an address and a size, waits for all ranks, and fails on all of them when sizes differ; copies may then begin. */
    private void agree(String operation, long address, long bytes) {
        exchange.publish(rank, address, bytes);
        exchange.barrier(rank, operation);
        for (int peer = 0; peer < worldSize(); peer++) {
            if (exchange.second(peer) != bytes) {
                throw exchange.fail(rank, "calls " + operation + " with " + bytes + " bytes, rank " + peer + " with " + exchange.second(peer), null);
            }
        }
        exchange.beginCopy();
    }

    private void done(String operation) {
        exchange.endCopy();
        exchange.barrier(rank, operation);
    }

    private void open() {
        if (closed) {
            throw new IllegalStateException("the communicator of rank " + rank + " is closed");
        }
    }

    private static void address(String name, long address, long bytes) {
        if (address <= 0 && bytes > 0) {
            throw Checks.broken(name, address, "be the address of " + bytes + " bytes");
        }
    }
}
