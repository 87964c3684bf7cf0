package org.flashring.comm;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.bytedeco.cuda.nccl.ncclComm;
import org.flashring.device.Device;
import org.flashring.internal.DeferredFrees;
import org.flashring.internal.Nccl;
import org.flashring.launch.Session;

/**
 * What all communicators of this process that stem from one group share: the first failure, and the thread that watches for it.
 * NCCL itself waits for ever; this thread sees an operation that is past the deadline, an error in the background, or a peer
 * whose process is gone, ends all work of the group and makes every later call throw.
 */
final class NcclWorld {
    private static final long POLL_MILLIS = 10;
    private static final long ABORT_MILLIS = 800; // NCCL's own abort may hang; whoever waits is told all the same

    private final long deadlineNanos;
    private final Session session; // null where all ranks are threads of this process
    private final List<NcclCommunicator> members = new ArrayList<>();
    private volatile CommunicationException failure;
    private boolean failing;
    private boolean closed;

    NcclWorld(Duration deadline, Session session) {
        this.deadlineNanos = deadline.toNanos();
        this.session = session;
        if (session != null) {
            session.listen(what -> fail(what, null, false));
        }
        Thread watch = new Thread(this::watch, "flashring watchdog");
        watch.setDaemon(true);
        watch.start();
    }

    synchronized void add(NcclCommunicator member) {
        members.add(member);
    }

    /** Forgets a member; without any the world ends, and the peers are told that this process leaves in peace. */
    void remove(NcclCommunicator member) {
        synchronized (this) {
            members.remove(member);
            if (!members.isEmpty() || closed) {
                return;
            }
            closed = true;
        }
        if (session != null) {
            session.close();
        }
    }

    /** Throws if the group has failed. */
    void check() {
        CommunicationException known = failure;
        if (known != null) {
            throw new CommunicationException(known.getMessage(), known.getCause());
        }
    }

    long deadlineNanos() {
        return deadlineNanos;
    }

    boolean hasFailed() {
        return failure != null;
    }

    private void watch() {
        while (!done()) {
            String problem = problem();
            if (problem != null) {
                fail(problem, null, true);
            }
            try {
                TimeUnit.MILLISECONDS.sleep(POLL_MILLIS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return;
            }
        }
    }

    private synchronized boolean done() {
        return closed || failing;
    }

    private String problem() {
        List<NcclCommunicator> all;
        synchronized (this) {
            all = List.copyOf(members);
        }
        for (NcclCommunicator member : all) {
            String problem = member.problem(deadlineNanos);
            if (problem != null) {
                return problem;
            }
        }
        return null;
    }

    /** Ends the group, unless it has failed before, and returns once its work is ended or cannot be. */
    void fail(String what, Throwable cause, boolean tellPeers) {
        List<NcclCommunicator> all;
        synchronized (this) {
            if (failing || closed) {
                return;
            }
            failing = true;
            all = List.copyOf(members);
        }
        if (tellPeers && session != null) {
            session.fail(what);
        }
        boolean ended = end(all.stream().map(NcclCommunicator::device).toList(), () -> Nccl.abort(surrendered(all)));
        failure = new CommunicationException(ended ? what : what + "; its work on the devices is not ended yet: their memory is freed once it is", cause);
    }

    /**
     * Runs a call of NCCL's that ends work on {@code devices}, and returns whether it came back soon. If it hangs it does so on a thread of
     * its own: until it is back, closing a buffer on one of the devices does not wait for that work, and the memory is freed then.
     */
    static boolean end(List<Device> devices, Runnable call) {
        devices.forEach(DeferredFrees::hold);
        Thread thread = new Thread(() -> {
            try {
                call.run();
            } finally {
                devices.forEach(DeferredFrees::release);
            }
        }, "flashring abort");
        thread.setDaemon(true);
        thread.start();
        try {
            thread.join(ABORT_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return !thread.isAlive();
    }

    private static List<ncclComm> surrendered(List<NcclCommunicator> members) {
        List<ncclComm> comms = new ArrayList<>();
        for (NcclCommunicator member : members) {
            comms.addAll(member.surrender());
        }
        return comms;
    }
}
