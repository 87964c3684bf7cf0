package org.flashring.comm.local;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import org.flashring.comm.Transfers;
import org.flashring.comm.transport.Collective;
import org.flashring.comm.transport.Transport;
import org.flashring.device.Device;

/** A rank of a {@link LocalGroup}: it copies from its peers' memory directly. */
final class LocalTransport implements Transport {
    private final LocalExchange exchange;
    private final int rank;
    private final LocalQueue queue;
    private final long[] received; // batches from each rank, ever
    private final long[] released; // batches to each rank of which it has been seen that they were taken, ever
    private final long[] sources; // of a sum
    private final long[] targets;
    private final long[] target = new long[1];

    LocalTransport(LocalExchange exchange, int rank, Device device) {
        this.exchange = exchange;
        this.rank = rank;
        received = new long[exchange.worldSize()];
        released = new long[exchange.worldSize()];
        sources = new long[exchange.worldSize()];
        targets = new long[exchange.worldSize()];
        queue = new LocalQueue(device, exchange.worldSize());
        exchange.join(rank, queue);
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
    public void requireAlive() {
        exchange.requireAlive();
    }

    @Override
    public void at(String phase, int step) {
        exchange.at(rank, phase, step);
    }

    @Override
    public void stream(long stream) {
        queue.stream(stream);
    }

    @Override
    public void post(long ticket, Transfers batch) {
        long ready = queue.posted(ticket);
        for (int i = 0; i < batch.sends(); i++) {
            if (batch.nextTo(batch.to(i), 0) == i) { // one message a rank
                exchange.put(rank, batch.to(i), batch, ready);
            }
        }
    }

    @Override
    public void receive(long ticket, Transfers batch) {
        for (int i = 0; i < batch.receives(); i++) {
            int from = batch.from(i);
            if (batch.nextFrom(from, 0) == i) {
                Transfers sent = exchange.peek(from, rank, batch);
                long copied;
                try {
                    copied = copy(ticket, from, sent, batch);
                } catch (RuntimeException | Error e) {
                    endBrokenCopy(e);
                    throw e;
                }
                exchange.take(from, rank, copied);
            }
        }
    }

    /** Copies what a peer's batch sends here, piece by piece. Returns the event after which that has been read. */
    private long copy(long ticket, int from, Transfers sent, Transfers batch) {
        queue.begin(ticket, exchange.ready(from, rank));
        int send = sent.nextTo(rank, 0);
        for (int i = batch.nextFrom(from, 0); i < batch.receives(); i = batch.nextFrom(from, i + 1)) {
            queue.fetch(batch.receiveAddress(i), sent.sendAddress(send), batch.receiveBytes(i));
            send = sent.nextTo(rank, send + 1);
        }
        return queue.received(from, received[from]++);
    }

    @Override
    public void release(long ticket, Transfers batch) {
        for (int i = 0; i < batch.sends(); i++) {
            int to = batch.to(i);
            if (batch.nextTo(to, 0) == i) {
                long number = released[to]++;
                exchange.drained(rank, to, number);
                queue.await(exchange.copied(rank, to, number));
            }
        }
    }

    /**
     * Publishes what this rank calls, waits for all, fails on all of them where sizes differ, copies, and waits again.
     */
    @Override
    public void collective(Collective collective) {
        exchange.call(rank, collective);
        queue.ready();
        exchange.barrier(rank, collective.operation());
        for (int peer = 0; peer < worldSize(); peer++) {
            compare(collective, peer, exchange.called(peer));
        }
        exchange.beginCopy();
        try {
            for (int peer = 0; peer < worldSize(); peer++) {
                queue.await(exchange.queue(peer).readyEvent());
            }
            copy(collective);
            queue.done();
        } catch (RuntimeException | Error e) {
            endBrokenCopy(e);
            throw e;
        }
        exchange.endCopy();
        exchange.barrier(rank, collective.operation());
        for (int peer = 0; peer < worldSize(); peer++) {
            queue.await(exchange.queue(peer).doneEvent());
        }
    }

    private void compare(Collective own, int peer, Collective theirs) {
        int part = own.difference(theirs);
        if (part >= 0) {
            throw exchange.fail(
                    rank,
                    "calls " + own.operation() + " with " + own.bytes(part) + " bytes"
                            + (own.even() ? "" : " for rank " + part) + ", rank " + peer + " with "
                            + theirs.bytes(part),
                    null);
        }
    }

    private void copy(Collective collective) {
        switch (collective.kind()) {
            case ALL_GATHER -> {
                for (int peer = 0; peer < worldSize(); peer++) {
                    queue.copy(
                            collective.receive() + collective.offset(peer),
                            exchange.called(peer).send(),
                            collective.bytes(peer));
                }
            }
            case ALL_TO_ALL -> {
                for (int peer = 0; peer < worldSize(); peer++) {
                    queue.copy(
                            collective.receive() + collective.offset(peer),
                            exchange.called(peer).send() + collective.offset(rank),
                            collective.bytes(peer));
                }
            }
            case ALL_REDUCE -> { // this rank alone touches its share, on all ranks
                long count = collective.bytes(0) / collective.dtype().bytes();
                long share = (count + worldSize() - 1) / worldSize();
                addresses(targets, rank * share * collective.dtype().bytes());
                queue.sum(targets, targets, Math.min(share, count - rank * share), collective.dtype());
            }
            case REDUCE_SCATTER -> {
                addresses(sources, collective.offset(rank));
                target[0] = collective.receive();
                queue.sum(
                        sources,
                        target,
                        collective.bytes(rank) / collective.dtype().bytes(),
                        collective.dtype());
            }
        }
    }

    /** Sets {@code addresses} to those of byte {@code offset} of what each rank brings. */
    private void addresses(long[] addresses, long offset) {
        for (int peer = 0; peer < addresses.length; peer++) {
            addresses[peer] = exchange.called(peer).send() + offset;
        }
    }

    /** Ends a copy that went wrong, and the group. */
    private void endBrokenCopy(Throwable cause) {
        exchange.endCopy();
        fail("failed: " + cause, cause);
    }

    @Override
    public void barrier() {
        queue.synchronize();
        exchange.barrier(rank, "barrier");
    }

    @Override
    public void synchronize() {
        queue.synchronize();
        exchange.requireAlive();
    }

    @Override
    public void agree(long plan, Map<String, String> terms) {
        exchange.agree(rank, "agree on plan " + plan, terms);
    }

    @Override
    public Transport split(String name, int color, int key) {
        exchange.publish(rank, color, key);
        exchange.barrier(rank, "split");
        List<Integer> members = new ArrayList<>();
        for (int peer = 0; peer < worldSize(); peer++) {
            if (exchange.color(peer) == color) {
                members.add(peer);
            }
        }
        members.sort(Comparator.<Integer>comparingInt(exchange::key).thenComparing(Comparator.naturalOrder()));
        if (members.get(0) == rank) {
            LocalExchange group = new LocalExchange(members.size(), exchange.deadline(), exchange.partName(name));
            exchange.adopt(group);
            for (int i = 0; i < members.size(); i++) {
                exchange.give(
                        members.get(i),
                        new LocalTransport(
                                group, i, exchange.queue(members.get(i)).device()));
            }
        }
        exchange.barrier(rank, "split");
        return exchange.takeGift(rank);
    }

    @Override
    public void fail(String what, Throwable cause) {
        exchange.fail(rank, what, cause);
    }

    @Override
    public void close() {
        exchange.leave(rank);
    }
}
