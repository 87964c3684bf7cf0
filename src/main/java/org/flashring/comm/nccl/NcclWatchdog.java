package org.flashring.comm.nccl;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.bytedeco.cuda.nccl.ncclComm;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.transport.Deadline;
import org.flashring.device.DeferredFrees;
import org.flashring.device.Device;
import org.flashring.internal.Assembly;
import org.flashring.internal.Nccl;
import org.flashring.launch.Session;

/**
 * What all communicators of this process that stem from one group share: the first failure, and the thread that watches
 * for it. NCCL itself waits for ever; this thread sees an operation that is past the deadline, an error in the
 * background, or a peer whose process is gone, ends all work of the group and makes every later call throw.
 */
final class NcclWatchdog {
    private static final long POLL_MILLIS = 10;
    private static final long AGREE_GRACE_NANOS = 1_000_000_000; // rank 0 knows who is missing, and speaks first
    private static final long ABORT_MILLIS = 800; // NCCL's own abort may hang; whoever waits is told all the same

    private final Deadline deadline;
    private final Session session; // null where all ranks are threads of this process
    private final Assembly assembly = new Assembly(); // where such ranks agree; processes do in the session
    private final List<NcclQueue> members = new ArrayList<>();
    private volatile CommunicationException failure;
    private boolean failing;
    private boolean closed;

    NcclWatchdog(Deadline deadline, Session session) {
        this.deadline = deadline;
        this.session = session;
        if (session != null) {
            session.listen(what -> fail(what, null, false));
        }
        Thread watch = new Thread(this::watch, "flashring watchdog");
        watch.setDaemon(true);
        watch.start();
    }

    synchronized void add(NcclQueue member) {
        members.add(member);
    }

    /** Forgets a member; without any the watch ends, and the peers are told that this process leaves in peace. */
    void remove(NcclQueue member) {
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

    /**
     * Returns once all ranks of the guest's group have come and agree; else ends the group and throws. Waits on the
     * host alone.
     *
     * @param name what failures of the guest's group begin with
     */
    void agree(String name, Assembly.Guest guest) {
        CompletableFuture<String> verdict = new CompletableFuture<>();
        if (session == null) {
            assembly.bring(guest, verdict::complete);
        } else {
            verdict = session.agree(guest.group(), guest.plan(), guest.rank(), guest.size(), guest.terms());
        }
        String problem = await(verdict, guest);
        if (!problem.isEmpty()) {
            fail(name + problem, null, true);
            throw new CommunicationException(name + problem);
        }
    }

    /** Returns the verdict, or why there is none. Throws if the group fails meanwhile. */
    private String await(CompletableFuture<String> verdict, Assembly.Guest guest) {
        long end = System.nanoTime() + deadline.nanos() + AGREE_GRACE_NANOS;
        while (System.nanoTime() < end) {
            try {
                return verdict.get(POLL_MILLIS, TimeUnit.MILLISECONDS);
            } catch (TimeoutException e) {
                check();
            } catch (ExecutionException e) {
                return e.getCause().getMessage();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return "rank " + guest.rank() + " was interrupted in " + guest.operation();
            }
        }
        return "rank " + guest.rank() + " " + deadline.missedIn(guest.operation());
    }

    /** Notes that a rank has left its group, so that nobody waits for its terms. */
    void leave(String group, int rank, int size) {
        if (session == null) {
            assembly.leave(group, rank, size);
        } else {
            session.leave(group, rank, size);
        }
    }

    /** Throws if the group has failed. */
    void check() {
        CommunicationException known = failure;
        if (known != null) {
            throw new CommunicationException(known.getMessage(), known.getCause());
        }
    }

    Deadline deadline() {
        return deadline;
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
        List<NcclQueue> all;
        synchronized (this) {
            all = List.copyOf(members);
        }
        for (NcclQueue member : all) {
            String problem = member.problem(deadline);
            if (problem != null) {
                return problem;
            }
        }
        return session == null ? assembly.overdue(deadline.nanos()) : session.overdue(deadline.nanos());
    }

    /** Ends the group, unless it has failed before, and returns once its work is ended or cannot be. */
    void fail(String what, Throwable cause, boolean tellPeers) {
        List<NcclQueue> all;
        synchronized (this) {
            if (awaitEnd() || closed) {
                return;
            }
            failing = true;
            all = List.copyOf(members);
        }
        boolean ended = false;
        try {
            if (tellPeers && session != null) {
                session.fail(what);
            }
            ended = all.isEmpty()
                    || end(all.stream().map(NcclQueue::device).toList(), () -> Nccl.abort(surrendered(all)));
        } finally {
            String notEnded = "; its work on the devices is not ended yet: their memory is freed once it is";
            synchronized (this) {
                failure = new CommunicationException(ended ? what : what + notEnded, cause);
                notifyAll();
            }
        }
    }

    /**
     * Returns whether the group has failed; where a thread is just ending it, once that is over. NCCL crashes if a rank
     * gives up its communicators meanwhile by itself: all of a process have to be ended together.
     */
    synchronized boolean awaitEnd() {
        boolean interrupted = false;
        while (failing && failure == null) {
            try {
                wait();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
        return failing;
    }

    /**
     * Runs a call of NCCL's that ends work on {@code devices}, and returns whether it came back soon. If it hangs it
     * does so on a thread of its own: until it is back, closing a buffer on one of the devices does not wait for that
     * work, and the memory is freed then.
     */
    static boolean end(List<Device> devices, Runnable call) {
        devices.forEach(DeferredFrees::hold);
        Thread thread = new Thread(
                () -> {
                    try {
                        call.run();
                    } finally {
                        devices.forEach(DeferredFrees::release);
                    }
                },
                "flashring abort");
        thread.setDaemon(true);
        thread.start();
        try {
            thread.join(ABORT_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return !thread.isAlive();
    }

    private static List<ncclComm> surrendered(List<NcclQueue> members) {
        List<ncclComm> comms = new ArrayList<>();
        for (NcclQueue member : members) {
            comms.addAll(member.surrender());
        }
        return comms;
    }
}
