package org.flashring.comm;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
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
    /** How long an operation waits for its peers unless told otherwise: longer than a step of a very long sequence. */
    public static final Duration DEFAULT_DEADLINE = Duration.ofMinutes(10);

    private static final int MOST_RANKS = 1024; // threads of one JVM; mailboxes take its square
    private static final Duration LONGEST_DEADLINE = Duration.ofNanos(Long.MAX_VALUE);

    private LocalGroup() {}

    /**
     * Returns the communicators of a new group, one per rank, each for one thread.
     *
     * @throws IllegalArgumentException unless 1 ≤ worldSize ≤ 1024 and the deadline is positive
     */
    public static List<Communicator> create(int worldSize, Duration deadline) {
        return List.copyOf(ranks(exchange(worldSize, deadline)));
    }

    private static LocalExchange exchange(int worldSize, Duration deadline) {
        Checks.between("worldSize", worldSize, 1, MOST_RANKS);
        Checks.notNull("deadline", deadline);
        if (deadline.isNegative() || deadline.isZero() || deadline.compareTo(LONGEST_DEADLINE) > 0) {
            throw Checks.broken("deadline", deadline, "be positive and at most " + LONGEST_DEADLINE);
        }
        return new LocalExchange(worldSize, deadline.toNanos());
    }

    private static List<Communicator> ranks(LocalExchange exchange) {
        List<Communicator> ranks = new ArrayList<>();
        for (int rank = 0; rank < exchange.worldSize(); rank++) {
            ranks.add(new LocalCommunicator(exchange, rank));
        }
        return ranks;
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
        LocalExchange exchange = exchange(worldSize, deadline);
        List<T> results = new ArrayList<>(Collections.nCopies(worldSize, null));
        AtomicBoolean threw = new AtomicBoolean();
        List<Thread> threads = new ArrayList<>();
        for (Communicator rank : ranks(exchange)) {
            Thread thread = new Thread(() -> {
                try (rank) {
                    T result = apply(body, rank);
                    synchronized (results) {
                        results.set(rank.rank(), result);
                    }
                } catch (Throwable e) {
                    rank.abort(e);
                    threw.set(true);
                }
            }, "flashring rank " + rank.rank());
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

    private static RuntimeException exception(LocalExchange.Failure failure) {
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
