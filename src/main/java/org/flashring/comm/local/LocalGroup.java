package org.flashring.comm.local;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import org.flashring.comm.Communicator;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.TransportCommunicator;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.internal.Checks;

/**
 * A group whose ranks are threads of this JVM and whose transport is memory copies: for machines without GPUs, for
 * tests, for several ranks on one GPU, and for the GPUs of one host, between which copies take no processor away from
 * the kernels.
 *
 * <pre>{@code
 * List<Double> losses = LocalGroup.run(4, communicator -> trainOn(communicator));
 * }</pre>
 */
public final class LocalGroup {
    /** How long an operation waits for its peers unless told otherwise: longer than a step of a very long sequence. */
    public static final Duration DEFAULT_DEADLINE = Duration.ofMinutes(10);

    private static final int MOST_RANKS = 1024; // threads of one JVM; mailboxes take its square

    private LocalGroup() {}

    /**
     * Returns the communicators of a new group, one per rank, each for one thread.
     *
     * @throws IllegalArgumentException unless 1 ≤ worldSize ≤ 1024 and the deadline is positive
     */
    public static List<Communicator> create(int worldSize, Duration deadline) {
        return List.copyOf(ranks(exchange(worldSize, deadline), host(worldSize)));
    }

    /**
     * Returns the communicators of a new group whose rank r works on {@code devices.get(r)}: each on the host, or each
     * on a CUDA device, which several may share.
     *
     * @throws IllegalArgumentException unless there are 1 to 1024 devices of one kind and the deadline is positive
     * @throws UnsupportedOperationException if a device is CUDA's and there is no CUDA
     */
    public static List<Communicator> create(List<Device> devices, Duration deadline) {
        checkDevices(devices);
        return List.copyOf(ranks(exchange(devices.size(), deadline), devices));
    }

    private static List<Device> host(int worldSize) {
        return Collections.nCopies(worldSize, Device.HOST);
    }

    private static void checkDevices(List<Device> devices) {
        Checks.notNull("devices", devices);
        Checks.between("devices.size", devices.size(), 1, MOST_RANKS);
        for (int rank = 0; rank < devices.size(); rank++) {
            Cuda.require("devices[" + rank + "]", devices.get(rank));
            if (devices.get(rank).isCuda() != devices.get(0).isCuda()) {
                throw Checks.broken("devices", devices, "be the host for all ranks, or CUDA devices for all");
            }
        }
        for (Device device : devices) {
            Cuda.enablePeers(device, devices);
        }
    }

    private static LocalExchange exchange(int worldSize, Duration deadline) {
        Checks.between("worldSize", worldSize, 1, MOST_RANKS);
        return new LocalExchange(worldSize, Deadline.of(deadline), "");
    }

    private static List<Communicator> ranks(LocalExchange exchange, List<Device> devices) {
        List<Communicator> ranks = new ArrayList<>();
        for (int rank = 0; rank < exchange.worldSize(); rank++) {
            ranks.add(new TransportCommunicator(new LocalTransport(exchange, rank, devices.get(rank))));
        }
        return ranks;
    }

    /** Returns the communicator of a group of one on the host. */
    public static Communicator single() {
        return single(Device.HOST);
    }

    /** Returns the communicator of a group of one on {@code device}. */
    public static Communicator single(Device device) {
        return create(List.of(Checks.notNull("device", device)), DEFAULT_DEADLINE)
                .get(0);
    }

    /** Returns what {@code body} returned on each rank, in rank order, with the default deadline. */
    public static <T> List<T> run(int worldSize, Function<Communicator, T> body) {
        return run(worldSize, DEFAULT_DEADLINE, body);
    }

    /**
     * Returns what {@code body} returned on each rank, in rank order, having run it on one thread per rank. When a rank
     * throws, the others' waits end too and the first failure is thrown here, naming its rank.
     */
    public static <T> List<T> run(int worldSize, Duration deadline, Function<Communicator, T> body) {
        return run(exchange(worldSize, deadline), host(worldSize), body);
    }

    /**
     * Returns what {@code body} returned on each rank, rank r working on {@code devices.get(r)}, see
     * {@link #create(List, Duration)}.
     */
    public static <T> List<T> run(List<Device> devices, Duration deadline, Function<Communicator, T> body) {
        checkDevices(devices);
        return run(exchange(devices.size(), deadline), devices, body);
    }

    private static <T> List<T> run(LocalExchange exchange, List<Device> devices, Function<Communicator, T> body) {
        Checks.notNull("body", body);
        List<T> results = new ArrayList<>(Collections.nCopies(devices.size(), null));
        AtomicBoolean threw = new AtomicBoolean();
        List<Thread> threads = new ArrayList<>();
        for (Communicator rank : ranks(exchange, devices)) {
            Thread thread = new Thread(
                    () -> {
                        try (rank) {
                            T result = apply(body, rank);
                            synchronized (results) {
                                results.set(rank.rank(), result);
                            }
                        } catch (Throwable e) {
                            rank.abort(e);
                            threw.set(true);
                        }
                    },
                    "flashring rank " + rank.rank());
            threads.add(thread);
            thread.start();
        }
        join(threads);
        if (threw.get()) {
            throw exception(exchange.failure());
        }
        return results;
    }

    /** Returns what {@code body} returns; when it throws, the peers learn why before this rank leaves. */
    private static <T> T apply(Function<Communicator, T> body, Communicator rank) {
        try {
            return body.apply(rank);
        } catch (Throwable e) {
            rank.abort(e);
            throw e;
        }
    }

    private static void join(List<Thread> threads) {
        boolean interrupted = false;
        for (Thread thread : threads) {
            while (thread.isAlive()) {
                try {
                    thread.join();
                } catch (InterruptedException e) {
                    interrupted = true;
                    threads.forEach(Thread::interrupt);
                }
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private static RuntimeException exception(LocalFailure failure) {
        if (failure.cause() instanceof Error error) {
            error.addSuppressed(failure.toException());
            throw error;
        }
        if (failure.cause() instanceof IllegalArgumentException e) {
            return new IllegalArgumentException("rank " + failure.rank() + ": " + e.getMessage(), e);
        }
        return failure.toException();
    }
}
