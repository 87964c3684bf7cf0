package org.flashring.comm.nccl;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import org.bytedeco.cuda.nccl.ncclComm;
import org.flashring.comm.Transfers;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.DeviceBacklog;
import org.flashring.comm.transport.DeviceWork;
import org.flashring.device.Device;
import org.flashring.device.Event;
import org.flashring.device.Stream;
import org.flashring.internal.Cudart;
import org.flashring.internal.Nccl;

/**
 * Where a rank's operations are queued. Each channel is a communicator of NCCL's with a stream: of several batches
 * under way, such as keys going on and gradients following them, each has its own and none waits for the other.
 *
 * <p>The gate keeps the watchdog from ending communicators that a thread is just calling into.
 */
final class NcclQueue {
    /** Batches that may be in flight at once; more share channels. */
    static final int CHANNELS = 2;

    private static final long GATE_MILLIS = 300;
    private static final long SPIN_NANOS = 200_000;
    private static final long PARK_NANOS = 50_000;

    private record Channel(ncclComm comm, Stream stream) {}

    private final NcclWatchdog watchdog;
    private final Device device;
    private final String who; // rank, and the group where that has a name
    private final List<Channel> channels = new ArrayList<>();
    private final DeviceBacklog backlog;
    private final Event reached; // a point of the caller's stream
    private final ReentrantLock gate = new ReentrantLock();
    private long stream;
    // NCCL's communicators are ended, or will be by whom they were given to; guarded by the gate unless that took too
    // long
    private volatile boolean surrendered;

    NcclQueue(NcclWatchdog watchdog, Device device, String who, List<ncclComm> comms) {
        this.watchdog = watchdog;
        this.device = device;
        this.who = who;
        for (ncclComm comm : comms) {
            channels.add(new Channel(comm, Stream.createUrgent(device)));
        }
        backlog = new DeviceBacklog(device);
        reached = Event.create(device);
    }

    Device device() {
        return device;
    }

    List<ncclComm> comms() {
        return channels.stream().map(Channel::comm).toList();
    }

    boolean hasFailed() {
        return watchdog.hasFailed();
    }

    /** Registers memory with all channels. Returns what {@link #deregister} takes; if the group has failed, nothing. */
    long[] register(long address, long bytes) {
        gate.lock();
        try {
            long[] registrations = new long[surrendered ? 0 : CHANNELS];
            for (int i = 0; i < registrations.length; i++) {
                registrations[i] = Nccl.register(channels.get(i).comm(), address, bytes);
            }
            return registrations;
        } finally {
            gate.unlock();
        }
    }

    /** Ends registrations, which waits for the peers. Returns whether all channels have let go. */
    boolean deregister(long[] registrations) {
        gate.lock();
        try {
            boolean done = !surrendered;
            for (int i = 0; i < registrations.length && done; i++) {
                done = Nccl.deregister(channels.get(i).comm(), registrations[i]);
            }
            return done;
        } finally {
            gate.unlock();
        }
    }

    void stream(long caller) {
        if (Cudart.isCapturing(caller)) {
            throw new UnsupportedOperationException(
                    "the stream is captured in a CUDA graph, but operations over NCCL are watched from the host and"
                            + " cannot be replayed; of the ranks of a LocalGroup they can");
        }
        stream = caller;
    }

    void at(String phase, int step) {
        backlog.at(phase, step);
    }

    /** Queues an operation whose end the caller's stream waits for. */
    void run(String operation, int channel, NcclCall call) {
        follow(issue(operation, null, channel, call));
    }

    /** Makes later work of the caller's stream wait for the end of an operation. */
    void follow(DeviceWork work) {
        Cudart.waitEvent(stream, work.ended().handle());
    }

    /**
     * Queues an operation on a channel: it begins when the caller's stream has come here. Failures name {@code batch}
     * too, which may be null.
     */
    DeviceWork issue(String operation, Transfers batch, int channel, NcclCall call) {
        try {
            DeviceWork work = backlog.take(operation, batch);
            while (work == null) {
                LockSupport.parkNanos(PARK_NANOS);
                watchdog.check();
                work = backlog.take(operation, batch);
            }
            issue(work, channels.get(channel), call);
            return work;
        } catch (IllegalStateException e) {
            watchdog.fail(who + " failed in " + operation + ": " + e.getMessage(), e, true);
            watchdog.check();
            throw e;
        }
    }

    private void issue(DeviceWork work, Channel channel, NcclCall call) {
        gate.lock();
        try {
            if (surrendered) {
                awaitFailure();
            }
            reached.record(stream);
            channel.stream().await(reached);
            work.begun().record(channel.stream().handle());
            backlog.add(work);
            call.on(channel.comm(), channel.stream().handle());
            work.ended().record(channel.stream().handle());
            backlog.issued(work);
        } catch (IllegalStateException e) {
            if (surrendered) {
                awaitFailure(); // the call was ended by the watchdog
            }
            throw e;
        } finally {
            gate.unlock();
        }
    }

    /** Waits for the watchdog, which has begun to end the group, to say why, and throws that. */
    private void awaitFailure() {
        while (true) {
            watchdog.check();
            LockSupport.parkNanos(PARK_NANOS);
        }
    }

    /** Waits on the host until the caller's stream has come here; a failure of the group ends it. */
    void synchronize() {
        reached.record(stream);
        long start = System.nanoTime();
        while (!reached.isDone()) {
            watchdog.check();
            if (System.nanoTime() - start < SPIN_NANOS) {
                Thread.onSpinWait();
            } else {
                LockSupport.parkNanos(PARK_NANOS);
            }
        }
        if (surrendered) {
            awaitFailure(); // work that the watchdog ends is done, too, before it has said why
        }
        watchdog.check();
    }

    /** Returns once everything queued is done, or the group has failed. */
    void drain() {
        while (!watchdog.hasFailed() && backlog.oldest() != null) {
            LockSupport.parkNanos(PARK_NANOS);
        }
    }

    /** What the watchdog asks: what is wrong here, or null. */
    String problem(Deadline deadline) {
        try {
            String overdue = backlog.overdue(System.nanoTime(), deadline.nanos());
            if (overdue != null) {
                return who + " " + deadline.missedIn(overdue);
            }
            if (!gate.tryLock()) {
                return null; // a thread is inside; it will be seen next time
            }
            try {
                return surrendered ? null : backgroundError();
            } finally {
                gate.unlock();
            }
        } catch (IllegalStateException e) {
            return who + " failed: " + e.getMessage();
        }
    }

    private String backgroundError() {
        for (Channel channel : channels) {
            String error = Nccl.asyncError(channel.comm());
            if (error != null) {
                String oldest = backlog.oldest();
                return who + " failed in " + (oldest == null ? "the background" : oldest) + ": " + error;
            }
        }
        return null;
    }

    /** Gives NCCL's communicators up, if they were not before: no verb will use them again. */
    List<ncclComm> surrender() {
        boolean locked = false;
        try {
            // a thread stuck inside NCCL is freed by the abort
            locked = gate.tryLock(GATE_MILLIS, TimeUnit.MILLISECONDS);
            if (surrendered) {
                return List.of();
            }
            surrendered = true;
            return comms();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return List.of();
        } finally {
            if (locked) {
                gate.unlock();
            }
        }
    }

    /** Frees streams and events; NCCL's communicators have been surrendered. */
    void close() {
        channels.forEach(channel -> channel.stream().close());
        backlog.close();
        reached.close();
    }
}
