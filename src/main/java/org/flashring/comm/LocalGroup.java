package org.flashring.comm;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import org.flashring.internal.Checks;

/**
 * A group whose ranks are threads of this JVM and whose transport is memory copies: for machines without GPUs, for tests, and
 * for several ranks on one device.
 *
 * <pre>{@code
 * List<Double> losses = LocalGroup.run(4, communicator -> trainOn(communicator));
 * }</pre>
 */
public final class LocalGroup {
    /** How long an operation waits for its peers unless told otherwise. */
    public static final Duration DEFAULT_DEADLINE = Duration.ofSeconds(60);

    private LocalGroup() {}

    /**
     * Returns the communicators of a new group, one per rank, each for one thread.
     *
     * @throws IllegalArgumentException unless worldSize ≥ 1 and the deadline is positive
     */
    public static List<Communicator> create(int worldSize, Duration deadline) {
        Checks.atLeast("worldSize", worldSize, 1);
        Checks.notNull("deadline", deadline);
        if (deadline.isNegative() || deadline.isZero()) {
            throw Checks.broken("deadline", deadline, "be positive");
        }
        LocalExchange exchange = new LocalExchange(worldSize, deadline.toNanos());
        List<Communicator> ranks = new ArrayList<>(worldSize);
        for (int rank = 0; rank < worldSize; rank++) {
            ranks.add(new LocalCommunicator(exchange, rank));
        }
        return List.copyOf(ranks);
    }

    /** Returns the communicator of a group of one. */
    public static Communicator single() {
        return create(1, DEFAULT_DEADLINE).get(0);
    }

    /** Returns what {@code body} returned on each rank, in rank order, with the default deadline. */
    public static <T> List<T> run(int worldSize, Function<Communicator, T> body) {
        return run(worldSize, DEFAULT_DEADLINE, body);
    }

    /**
     * Returns what {@code body} returned on each rank, in rank order, having run it on one thread per rank. When a rank throws,
     * the others' waits end too and the first failure is thrown here, naming its rank.
     */
    public static <T> List<T> run(int worldSize, Duration deadline, Function<Communicator, T> body) {
        Checks.notNull("body", body);
        List<Communicator> ranks = create(worldSize, deadline);
        List<T> results = new ArrayList<>();
        for (int rank = 0; rank < worldSize; rank++) {
            results.add(null);
        }
        AtomicReference<Failure> first = new AtomicReference<>();
        List<Thread> threads = new ArrayList<>();
        for (Communicator rank : ranks) {
            Thread thread = new Thread(() -> {
                try {
                    T result = body.apply(rank);
                    synchronized (results) {
                        results.set(rank.rank(), result);
                    }
                    rank.barrier(); // nobody leaves while a peer may still read its memory
                } catch (Throwable e) {
                    first.compareAndSet(null, new Failure(rank.rank(), e)); // before close, which makes the peers fail
                } finally {
                    rank.close();
                }
            }, "flashring rank " + rank.rank());
            threads.add(thread);
            thread.start();
        }
        join(threads);
        Failure failure = first.get();
        if (failure != null) {
            throw failure.toException();
        }
        return results;
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

    private record Failure(int rank, Throwable cause) {
        RuntimeException toException() {
            if (cause instanceof Error error) {
                throw error;
            }
            if (cause instanceof IllegalArgumentException e) {
                return new IllegalArgumentException("rank " + rank + ": " + e.getMessage(), e);
            }
            return new CommunicationException("rank " + rank + " failed: " + cause.getMessage(), cause);
        }
    }
}
