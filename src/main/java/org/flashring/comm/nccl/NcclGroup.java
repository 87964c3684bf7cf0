package org.flashring.comm.nccl;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Supplier;
import org.bytedeco.cuda.nccl.ncclComm;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.TransportCommunicator;
import org.flashring.device.Cuda;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.internal.Cudart;
import org.flashring.internal.Nccl;
import org.flashring.launch.Environment;
import org.flashring.launch.Rendezvous;
import org.flashring.launch.Session;

/**
 * Groups whose ranks are GPUs and whose transport is NCCL: {@link #create} for the GPUs of one host with one thread of
 * this JVM each, {@link #join} for one process each, on one host or many.
 *
 * <p>An operation that waits for its peers longer than the deadline, an error that NCCL notices and a process that dies
 * end the group: its work on the devices stops, and every call on every surviving rank,
 * {@link Communicator#synchronize} included, throws a {@link CommunicationException} that names rank, operation and
 * step. Streams then hold whatever there was; results are void. Ranks of one JVM leave together: close waits for the
 * others, the deadline long at most.
 *
 * <p>Processes compare plans through that of rank 0. Once it has closed its communicators, others may go on, also in
 * groups that they split off, but not begin new plans.
 */
public final class NcclGroup {
    /** The term by which processes find out that they were told different transports. */
    public static final String TRANSPORT = "transport";

    /**
     * NCCL waits for ever for a rank that never comes; making a group is given up after this, or the deadline if that
     * is longer.
     */
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private NcclGroup() {}

    /** Returns why there is no NCCL in this process; empty if there is. */
    public static String unavailabilityCause() {
        if (!Cuda.isAvailable()) {
            return Cuda.unavailabilityCause();
        }
        try {
            Nccl.load();
            return "";
        } catch (LinkageError e) {
            return "NCCL cannot be loaded: " + e.getMessage();
        }
    }

    /**
     * Returns what carries groups made with default options, in words, such as "release 2.28.3, channels: NCCL's
     * choice, cluster size: NCCL's choice", and NCCL's variables in the environment that count. Settings in NCCL's own
     * files are not seen.
     *
     * @throws UnsupportedOperationException if there is no CUDA or no NCCL; the message says why
     */
    public static String description() {
        return description(requireNccl(), System.getenv());
    }

    static String description(int release, Map<String, String> environment) {
        StringBuilder text = new StringBuilder("release ")
                .append(name(release))
                .append(", ")
                .append(NcclOptions.defaults().effective(environment));
        String separator = "; set in the environment: ";
        for (Map.Entry<String, String> variable :
                NcclOptions.overrides(environment).entrySet()) {
            text.append(separator).append(variable);
            separator = ", ";
        }
        return text.toString();
    }

    private static String name(int release) {
        return release / 10_000 + "." + release / 100 % 100 + "." + release % 100;
    }

    /**
     * Returns the communicators of a new group, rank r on {@code devices.get(r)}, each for one thread.
     *
     * @param deadline how long an operation waits for its peers
     * @throws IllegalArgumentException unless the devices are CUDA devices of this process, each named once, and the
     *     deadline is positive
     * @throws UnsupportedOperationException if there is no CUDA or no NCCL; the message says why
     * @throws CommunicationException if NCCL fails
     */
    public static List<Communicator> create(List<Device> devices, Duration deadline) {
        return create(devices, deadline, NcclOptions.defaults());
    }

    /** As {@link #create(List, Duration)}, with {@code options} for NCCL, which its environment overrides. */
    public static List<Communicator> create(List<Device> devices, Duration deadline, NcclOptions options) {
        requireNccl(Checks.notNull("options", options));
        Checks.notNull("devices", devices);
        Checks.atLeast("devices.size", devices.size(), 1);
        Deadline limit = Deadline.of(deadline);
        for (int rank = 0; rank < devices.size(); rank++) {
            if (!Cuda.require("devices[" + rank + "]", devices.get(rank)).isCuda()) {
                throw Checks.broken("devices[" + rank + "]", devices.get(rank), "be a CUDA device");
            }
        }
        if (new HashSet<>(devices).size() < devices.size()) {
            throw Checks.broken(
                    "devices", devices, "name each device once: NCCL has one rank a device; LocalGroup takes several");
        }
        List<byte[]> ids = newIds();
        NcclWatchdog watchdog = new NcclWatchdog(limit, null);
        NcclLocalRanks together = new NcclLocalRanks("", devices.size());
        List<CompletableFuture<Communicator>> ranks = new ArrayList<>();
        for (int rank = 0; rank < devices.size(); rank++) {
            int own = rank;
            ranks.add(inBackground(
                    () -> connect(watchdog, together, devices.get(own), own, devices.size(), ids, options)));
        }
        List<Communicator> communicators = new ArrayList<>();
        for (int rank = 0; rank < ranks.size(); rank++) {
            communicators.add(await(ranks.get(rank), rank, deadline, watchdog));
        }
        return List.copyOf(communicators);
    }

    /**
     * Returns this process's communicator in the group of all processes that were started together, once they have come
     * and agree on {@code terms}.
     *
     * @param environment who this process is; it works on CUDA device {@code localRank}
     * @param terms names and values that must be the same on all ranks, such as {@link org.flashring.plan.Plan#terms}
     * @param deadline how long an operation waits for its peers
     * @throws IllegalArgumentException if there is no such device or the deadline is not positive
     * @throws UnsupportedOperationException if there is no CUDA or no NCCL; the message says why
     * @throws CommunicationException if the ranks disagree, do not come, or NCCL fails
     */
    public static Communicator join(Environment environment, Map<String, String> terms, Duration deadline) {
        return join(environment, terms, deadline, NcclOptions.defaults());
    }

    /**
     * As {@link #join(Environment, Map, Duration)}, with {@code options} for NCCL, which its environment overrides.
     * What comes of both ranks compare too.
     */
    public static Communicator join(
            Environment environment, Map<String, String> terms, Duration deadline, NcclOptions options) {
        int release = requireNccl(Checks.notNull("options", options));
        Deadline limit = Deadline.of(deadline);
        int ordinal = Checks.notNull("environment", environment).localRank();
        Device device = Cuda.require("environment.localRank", Device.cuda(ordinal));
        Map<String, String> all = new LinkedHashMap<>();
        all.put(TRANSPORT, "nccl");
        all.putAll(Checks.notNull("terms", terms));
        all.put("NCCL release", String.valueOf(release));
        all.putAll(options.effective(System.getenv()).terms());
        Session session = Rendezvous.join(environment, all, longer(deadline, PATIENCE));
        try {
            requireDistinct(session, device);
            List<byte[]> ids = sharedIds(session);
            NcclWatchdog watchdog = new NcclWatchdog(limit, session);
            return await(
                    inBackground(() -> connect(
                            watchdog,
                            new NcclLocalRanks("", 1),
                            device,
                            environment.rank(),
                            environment.worldSize(),
                            ids,
                            options)),
                    environment.rank(),
                    deadline,
                    watchdog);
        } catch (RuntimeException e) {
            session.close();
            throw e;
        }
    }

    private static int requireNccl(NcclOptions options) {
        int release = requireNccl();
        if (options.registered() && release < Nccl.REGISTERS) {
            throw new UnsupportedOperationException(
                    "NCCL " + name(release) + " cannot register memory; release " + name(Nccl.REGISTERS) + " can");
        }
        return release;
    }

    private static int requireNccl() {
        if (!Cuda.isAvailable()) {
            throw new UnsupportedOperationException("CUDA is not available: " + Cuda.unavailabilityCause());
        }
        try {
            return Nccl.load();
        } catch (LinkageError e) {
            throw new UnsupportedOperationException("NCCL cannot be loaded: " + e.getMessage(), e);
        }
    }

    private static Duration longer(Duration a, Duration b) {
        return a.compareTo(b) > 0 ? a : b;
    }

    private static List<byte[]> newIds() {
        List<byte[]> ids = new ArrayList<>();
        for (int channel = 0; channel < NcclQueue.CHANNELS; channel++) {
            ids.add(Nccl.newId());
        }
        return ids;
    }

    /** Returns rank 0's ids on all ranks. */
    private static List<byte[]> sharedIds(Session session) {
        List<byte[]> ids = new ArrayList<>();
        for (int channel = 0; channel < NcclQueue.CHANNELS; channel++) {
            ids.add(session.exchange(session.rank() == 0 ? Nccl.newId() : new byte[0])[0]);
        }
        return ids;
    }

    /** Throws on all ranks if two of them work on the same GPU, which NCCL would take ill much later. */
    private static void requireDistinct(Session session, Device device) {
        byte[][] places =
                session.exchange((hostName() + " " + Cudart.busId(device.ordinal())).getBytes(StandardCharsets.UTF_8));
        for (int rank = 0; rank < places.length; rank++) {
            for (int other = 0; other < rank; other++) {
                if (Arrays.equals(places[rank], places[other])) {
                    throw new CommunicationException("the ranks cannot start: ranks " + other + " and " + rank
                            + " both work on the GPU at "
                            + new String(places[rank], StandardCharsets.UTF_8));
                }
            }
        }
    }

    private static String hostName() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException e) {
            return "localhost";
        }
    }

    private static Communicator connect(
            NcclWatchdog watchdog,
            NcclLocalRanks together,
            Device device,
            int rank,
            int worldSize,
            List<byte[]> ids,
            NcclOptions options) {
        int current = CurrentDevice.enter(device);
        try {
            List<ncclComm> comms = new ArrayList<>();
            for (byte[] id : ids) {
                comms.add(Nccl.initRank(
                        id,
                        rank,
                        worldSize,
                        options.minCtas(),
                        options.maxCtas(),
                        options.clusterSize().orElse(Nccl.UNDEFINED)));
            }
            return new TransportCommunicator(
                    new NcclTransport(watchdog, together, "", device, comms, options.registered()));
        } finally {
            CurrentDevice.leave(current);
        }
    }

    private static CompletableFuture<Communicator> inBackground(Supplier<Communicator> connect) {
        CompletableFuture<Communicator> result = new CompletableFuture<>();
        Thread thread = new Thread(
                () -> {
                    try {
                        result.complete(connect.get());
                    } catch (Throwable e) {
                        result.completeExceptionally(e);
                    }
                },
                "flashring connect");
        thread.setDaemon(true); // stays in NCCL for ever if a peer never comes
        thread.start();
        return result;
    }

    private static Communicator await(
            CompletableFuture<Communicator> connecting, int rank, Duration deadline, NcclWatchdog watchdog) {
        Duration patience = longer(deadline, PATIENCE);
        String problem;
        Throwable cause;
        try {
            return connecting.get(patience.toMillis(), TimeUnit.MILLISECONDS);
        } catch (ExecutionException e) {
            problem = e.getCause().getMessage();
            cause = e.getCause();
        } catch (TimeoutException e) {
            problem = "waited " + patience.toMillis() + " ms for the others in NCCL's start";
            cause = e;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            problem = "interrupted";
            cause = e;
        }
        watchdog.fail("rank " + rank + " cannot connect: " + problem, cause, true);
        throw new CommunicationException("rank " + rank + " cannot connect: " + problem, cause);
    }
}
