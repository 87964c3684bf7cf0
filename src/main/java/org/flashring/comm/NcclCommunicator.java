package org.flashring.comm;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;
import org.bytedeco.cuda.nccl.ncclComm;
import org.flashring.DType;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Event;
import org.flashring.device.Stream;
import org.flashring.internal.Assembly;
import org.flashring.internal.Checks;
import org.flashring.internal.Cudart;
import org.flashring.internal.Nccl;

/**
 * A rank of a {@link NcclGroup}. Each of its channels is a communicator of NCCL's with a stream: of several exchanges posted
 * together, such as keys going on and gradients following them, each has its own and none waits for the other.
 *
 * <p>The gate keeps the watchdog from ending communicators that a thread is just calling into.
 */
final class NcclCommunicator implements Communicator {
    /** Exchanges that may be in flight at once; more share channels. */
    static final int CHANNELS = 2;
    private static final int MOST_POSTED = 8;
    private static final long GATE_MILLIS = 300;
    private static final long SPIN_NANOS = 200_000;
    private static final long PARK_NANOS = 50_000;

    private record Channel(ncclComm comm, Stream stream) {}

    private final NcclWorld world;
    private final NcclRoom room;
    private final Device device;
    private final int rank;
    private final int worldSize;
    private final List<Channel> channels = new ArrayList<>();
    private final NcclBacklog backlog;
    private final Event reached;         // a point of the caller's stream
    private final DeviceBuffer scratch;  // for barriers
    private final NcclWork[] posted = new NcclWork[MOST_POSTED];
    private final Exchange[] exchanges = new Exchange[MOST_POSTED];
    private final ReentrantLock gate = new ReentrantLock();
    private final AtomicBoolean busy = new AtomicBoolean();
    private int postedCount;
    private int splits;
    private long plans; // agreed on, or about to be
    private long stream;
    private boolean surrendered; // NCCL's communicators are ended, or will be by whom they were given to; guarded by the gate unless that took too long
    private boolean closed;

    NcclCommunicator(NcclWorld world, NcclRoom room, Device device, List<ncclComm> comms) {
        this.world = world;
        this.room = room;
        this.device = device;
        this.rank = Nccl.rank(comms.get(0));
        this.worldSize = Nccl.size(comms.get(0));
        for (ncclComm comm : comms) {
            channels.add(new Channel(comm, Stream.createUrgent(device)));
        }
        Arrays.setAll(exchanges, i -> new Exchange());
        backlog = new NcclBacklog(device);
        reached = Event.create(device);
        scratch = DeviceBuffer.allocate(device, 2L * worldSize);
        scratch.fill(0, 0);
        world.add(this);
        warmUp();
    }

    /** Connects every pair of ranks on every channel: NCCL does it at first use, on the host, where no deadline reaches it. */
    private void warmUp() {
        for (Channel channel : channels) {
            collective("connect", channel, c -> toAll(scratch.address(), 1, scratch.address() + worldSize, c));
        }
        collective("connect", channels.get(0), c -> Nccl.allReduce(scratch.address(), 1, DType.BFLOAT16, c.comm(), c.stream().handle()));
        synchronize();
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
    public void stream(long newStream) {
        int current = enter();
        stream = newStream;
        leave(current);
    }

    @Override
    public void at(String phase, int step) {
        backlog.at(phase, step);
    }

    @Override
    public void post(long send, long sendBytes, int to, long receive, long receiveBytes, int from) {
        Ranges.exchange(worldSize, send, sendBytes, to, receive, receiveBytes, from);
        int current = enter();
        try {
            if (postedCount == MOST_POSTED) {
                throw new IllegalStateException("more than " + MOST_POSTED + " exchanges posted without await");
            }
            Exchange exchange = exchanges[postedCount];
            exchange.set(send, sendBytes, to, receive, receiveBytes, from);
            posted[postedCount] = issue("exchange", to, from, channels.get(postedCount % CHANNELS), exchange);
            postedCount++;
        } finally {
            leave(current);
        }
    }

    @Override
    public void await() {
        int current = enter();
        try {
            for (int i = 0; i < postedCount; i++) {
                Cudart.waitEvent(stream, posted[i].ended.handle());
            }
            postedCount = 0;
        } finally {
            leave(current);
        }
    }

    @Override
    public void allGather(long send, long bytes, long receive) {
        Ranges.allGather(rank, worldSize, send, bytes, receive);
        collective("allGather", channels.get(0), c -> Nccl.allGather(send, receive, bytes, c.comm(), c.stream().handle()));
    }

    @Override
    public void allToAll(long send, long bytes, long receive) {
        Ranges.allToAll(worldSize, send, bytes, receive);
        collective("allToAll", channels.get(0), c -> toAll(send, bytes, receive, c));
    }

    private void toAll(long send, long bytes, long receive, Channel channel) {
        Nccl.groupStart();
        for (int peer = 0; peer < worldSize && bytes > 0; peer++) {
            Nccl.send(send + peer * bytes, bytes, peer, channel.comm(), channel.stream().handle());
            Nccl.receive(receive + peer * bytes, bytes, peer, channel.comm(), channel.stream().handle());
        }
        Nccl.groupEnd();
    }

    @Override
    public void allReduce(long data, long count, DType dtype) {
        Ranges.allReduce(data, count, dtype);
        collective("allReduce", channels.get(0), c -> Nccl.allReduce(data, count, dtype, c.comm(), c.stream().handle()));
    }

    @Override
    public void reduceScatter(long send, long count, DType dtype, long receive) {
        Ranges.reduceScatter(rank, worldSize, send, count, dtype, receive);
        collective("reduceScatter", channels.get(0), c -> Nccl.reduceScatter(send, receive, count, dtype, c.comm(), c.stream().handle()));
    }

    @Override
    public void barrier() {
        collective("barrier", channels.get(0), c -> Nccl.allReduce(scratch.address(), 1, DType.BFLOAT16, c.comm(), c.stream().handle()));
        synchronize();
    }

    @Override
    public void synchronize() {
        int current = enter();
        try {
            reached.record(stream);
            await(reached);
        } finally {
            leave(current);
        }
        world.check();
    }

    @Override
    public void agree(Map<String, String> terms) {
        Checks.notNull("terms", terms);
        int current = enter();
        try {
            world.agree(new Assembly.Guest(room.name(), ++plans, rank, worldSize, terms));
        } finally {
            leave(current);
        }
    }

    @Override
    public Communicator split(int color, int key) {
        Checks.atLeast("color", color, 0);
        List<ncclComm> parts = new ArrayList<>();
        follow(queue("split", -1, -1, channels.get(0), first -> channels.forEach(c -> parts.add(Nccl.split(c.comm(), color, key)))));
        NcclRoom part = room.part(splits++, color, Nccl.size(parts.get(0)));
        return onDevice(() -> new NcclCommunicator(world, part, device, parts));
    }

    @Override
    public void abort(Throwable cause) {
        Checks.notNull("cause", cause);
        world.fail("rank " + rank + " failed: " + cause, cause, true);
    }

    @Override
    public void close() {
        if (!busy.compareAndSet(false, true)) {
            throw new IllegalStateException("another thread is inside the communicator of rank " + rank
                    + "; abort ends its wait");
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
        if (postedCount > 0) {
            world.fail("rank " + rank + " left the group with " + postedCount + " exchanges posted but not awaited",
                    null, true);
        }
        onDevice(() -> {
            while (!world.hasFailed() && backlog.oldest() != null) {
                LockSupport.parkNanos(PARK_NANOS);
            }
            world.leave(room.name(), rank, worldSize);
            world.remove(this);
            room.leave(surrender(), world.hasFailed(), world.deadlineNanos());
            channels.forEach(channel -> channel.stream().close());
            backlog.close();
            reached.close();
            if (!world.hasFailed()) {
                scratch.close(); // waits for the device, which work that cannot be ended may keep busy for ever
            }
            return null;
        });
    }

    /** What {@link NcclWorld}'s watchdog asks: what is wrong here, or null. */
    String problem(long deadlineNanos) {
        try {
            String overdue = backlog.overdue(System.nanoTime(), deadlineNanos);
            if (overdue != null) {
                return "rank " + rank + " waited " + deadlineNanos / 1_000_000 + " ms, the deadline, in " + overdue;
            }
            if (!gate.tryLock()) {
                return null; // a thread is inside; it will be seen next time
            }
            try {
                for (Channel channel : channels) {
                    String error = surrendered ? null : Nccl.asyncError(channel.comm());
                    if (error != null) {
                        String oldest = backlog.oldest();
                        return "rank " + rank + " failed in " + (oldest == null ? "the background" : oldest) + ": " + error;
                    }
                }
                return null;
            } finally {
                gate.unlock();
            }
        } catch (IllegalStateException e) {
            return "rank " + rank + " failed: " + e.getMessage();
        }
    }

    /** Gives NCCL's communicators up, if they were not before: no verb will use them again. */
    List<ncclComm> surrender() {
        boolean locked = false;
        try {
            locked = gate.tryLock(GATE_MILLIS, TimeUnit.MILLISECONDS); // a thread stuck inside NCCL is freed by the abort
            if (surrendered) {
                return List.of();
            }
            surrendered = true;
            return channels.stream().map(Channel::comm).toList();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return List.of();
        } finally {
            if (locked) {
                gate.unlock();
            }
        }
    }

    /** What a verb does with a channel. */
    private interface Call {
        void on(Channel channel);
    }

    /** An exchange, kept and set anew for each that is posted: a call of a ring makes no objects. */
    private static final class Exchange implements Call {
        private long send;
        private long sendBytes;
        private int to;
        private long receive;
        private long receiveBytes;
        private int from;

        void set(long newSend, long newSendBytes, int newTo, long newReceive, long newReceiveBytes, int newFrom) {
            send = newSend;
            sendBytes = newSendBytes;
            to = newTo;
            receive = newReceive;
            receiveBytes = newReceiveBytes;
            from = newFrom;
        }

        @Override
        public void on(Channel channel) {
            Nccl.groupStart();
            if (sendBytes > 0) {
                Nccl.send(send, sendBytes, to, channel.comm(), channel.stream().handle());
            }
            if (receiveBytes > 0) {
                Nccl.receive(receive, receiveBytes, from, channel.comm(), channel.stream().handle());
            }
            Nccl.groupEnd();
        }
    }

    /** Queues an operation whose end the caller's stream waits for. */
    private void collective(String operation, Channel channel, Call call) {
        follow(queue(operation, -1, -1, channel, call));
    }

    /** Makes later work of the caller's stream wait for the end of an operation. */
    private void follow(NcclWork work) {
        onDevice(() -> {
            Cudart.waitEvent(stream, work.ended.handle());
            return null;
        });
    }

    /** Queues an operation on a channel: it begins when the caller's stream has come here. */
    private NcclWork queue(String operation, int to, int from, Channel channel, Call call) {
        int current = enter();
        try {
            return issue(operation, to, from, channel, call);
        } finally {
            leave(current);
        }
    }

    /** As {@link #queue}, for the thread that is inside. */
    private NcclWork issue(String operation, int to, int from, Channel channel, Call call) {
        try {
            NcclWork work = backlog.take(operation, to, from);
            while (work == null) {
                LockSupport.parkNanos(PARK_NANOS);
                world.check();
                work = backlog.take(operation, to, from);
            }
            gate.lock();
            try {
                if (surrendered) {
                    awaitFailure();
                }
                reached.record(stream);
                channel.stream().await(reached);
                work.begun.record(channel.stream().handle());
                backlog.add(work);
                call.on(channel);
                work.ended.record(channel.stream().handle());
                backlog.issued(work);
            } catch (IllegalStateException e) {
                if (surrendered) {
                    awaitFailure(); // the call was ended by the watchdog
                }
                throw e;
            } finally {
                gate.unlock();
            }
            return work;
        } catch (IllegalStateException e) {
            world.fail("rank " + rank + " failed in " + operation + ": " + e.getMessage(), e, true);
            world.check();
            throw e;
        }
    }

    /** Waits for the watchdog, which has begun to end the group, to say why, and throws that. */
    private void awaitFailure() {
        while (true) {
            world.check();
            LockSupport.parkNanos(PARK_NANOS);
        }
    }

    /** Waits on the host, a failure of the group ends it. */
    private void await(Event event) {
        long start = System.nanoTime();
        while (!event.isDone()) {
            world.check();
            if (System.nanoTime() - start < SPIN_NANOS) {
                Thread.onSpinWait();
            } else {
                LockSupport.parkNanos(PARK_NANOS);
            }
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
            world.check();
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

    private <T> T onDevice(Supplier<T> action) {
        int current = CurrentDevice.enter(device);
        try {
            return action.get();
        } finally {
            CurrentDevice.leave(current);
        }
    }
}
