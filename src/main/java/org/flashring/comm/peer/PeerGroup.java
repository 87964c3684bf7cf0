package org.flashring.comm.peer;

import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Consumer;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.Transport;
import org.flashring.comm.transport.TransportCommunicator;
import org.flashring.device.Cuda;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.launch.Environment;

/**
 * Groups whose ranks are processes on the GPUs of one host: who receives copies from the sender's memory with its GPU's
 * copy engines (CUDA IPC), which take no multiprocessor away from kernels. Several ranks may share a GPU. Threads of
 * one JVM do the same as a {@link org.flashring.comm.local.LocalGroup}.
 *
 * <p>Between hosts, and where a GPU cannot reach another one's memory, it is a group of {@link NcclGroup} instead, and
 * says so.
 *
 * <p>What ranks send is memory of {@code cudaMalloc}: CUDA shows other processes no pools and no expandable segments.
 * Once a peer has opened an allocation CUDA gives it back when it is freed here and closed there. Peers hear of what
 * was freed, and close it, in the next collective, {@link Communicator#agree} (so in an operation's first call) or
 * {@link Communicator#barrier}: after a barrier of all ranks that were shown it, what had been freed before is free. A
 * group that does none of these holds it until it shows another allocation in its place or ends.
 *
 * <p>Sums are taken in rank order, so that all ranks get the same bits on every run.
 *
 * <p>Each group, also one split off, waits for peers in three streams. CUDA runs 8 streams of a process beside each
 * other and queues more behind these, unless {@code CUDA_DEVICE_MAX_CONNECTIONS} says up to 32 when the process starts:
 * {@code flashring launch} sets that.
 *
 * <p>A process that dies is noticed at once, one that stands still, or whose GPU does, after the deadline. Every call
 * on every surviving rank, {@link Communicator#synchronize} included, then throws a {@link CommunicationException} that
 * names rank, operation and step; what streams wait for is ended, and their results are void.
 */
public final class PeerGroup {
    private static final System.Logger LOG = System.getLogger(PeerGroup.class.getName());

    private PeerGroup() {}

    /**
     * Returns this process's communicator in the group of all processes that were started together, once they have come
     * and agree on {@code terms}; over NCCL, after a warning to the log, where peer copies cannot be.
     *
     * @param environment who this process is; it works on CUDA device {@code localRank}, counted round where there are
     *     fewer
     * @param terms names and values that must be the same on all ranks, such as {@link org.flashring.plan.Plan#terms}
     * @param deadline how long an operation waits for its peers
     * @throws IllegalArgumentException if the deadline is not positive
     * @throws UnsupportedOperationException if there is no CUDA, or neither peer copies nor NCCL; the message says why
     * @throws CommunicationException if the ranks disagree or do not come
     */
    public static Communicator join(Environment environment, Map<String, String> terms, Duration deadline) {
        return join(
                environment,
                terms,
                deadline,
                cause -> LOG.log(System.Logger.Level.WARNING, "NCCL in place of peer copies: {0}", cause));
    }

    /**
     * As {@link #join(Environment, Map, Duration)}; {@code fallback} is told why the group goes over NCCL, and nothing
     * if it does not. All ranks are told the same.
     */
    public static Communicator join(
            Environment environment, Map<String, String> terms, Duration deadline, Consumer<String> fallback) {
        Deadline limit = Deadline.of(deadline);
        Checks.notNull("environment", environment);
        Checks.notNull("fallback", fallback);
        Map<String, String> all = new LinkedHashMap<>();
        all.put(NcclGroup.TRANSPORT, "peer");
        all.putAll(Checks.notNull("terms", terms));
        Cuda.require("environment.localRank", Device.cuda(0));
        Device device = Device.cuda(environment.localRank() % Cuda.deviceCount());
        PeerProcess process = new PeerProcess(environment.rank(), device, limit);
        String cause;
        int current = CurrentDevice.enter(device);
        try {
            Transport control = ((TransportCommunicator) ProcessGroup.join(environment, all, deadline)).transport();
            PeerTransport transport = PeerTransport.over(process, control);
            cause = connect(transport);
            if (cause.isEmpty()) {
                return new TransportCommunicator(transport);
            }
        } finally {
            CurrentDevice.leave(current);
        }
        fallback.accept(cause);
        return overNccl(environment, terms, deadline, cause);
    }

    /** Returns why the ranks cannot reach each other, the same on all, after which the transport is closed. */
    private static String connect(PeerTransport transport) {
        boolean connected = false;
        try {
            String cause = transport.connect();
            connected = cause.isEmpty();
            return cause;
        } finally {
            if (!connected) {
                transport.close();
            }
        }
    }

    private static Communicator overNccl(
            Environment environment, Map<String, String> terms, Duration deadline, String cause) {
        try {
            return NcclGroup.join(environment, terms, deadline);
        } catch (UnsupportedOperationException | IllegalArgumentException e) {
            throw new UnsupportedOperationException(
                    "there are no peer copies (" + cause + "), and over NCCL " + e.getMessage(), e);
        }
    }
}
