package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.flashring.comm.local.LocalGroup;

/**
 * Runs one thread per rank and says how each of them ended, where {@link LocalGroup#run} reports the first failure
 * alone.
 */
public final class Ranks {
    /** Far beyond any deadline that these tests give. */
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    private Ranks() {}

    /** What a rank does. */
    @FunctionalInterface
    public interface Body {
        void run(Communicator communicator) throws Exception;
    }

    /** How a rank ended: {@code thrown} is null if it returned. */
    public record Ending(int rank, Throwable thrown, Duration after) {
        public boolean failed() {
            return thrown != null;
        }
    }

    /** Returns how each rank of a new group ended, in rank order; each leaves the group when its body ends. */
    public static List<Ending> run(int worldSize, Duration deadline, Body body) {
        return run(LocalGroup.create(worldSize, deadline), body);
    }

    /** Returns how each rank ended; fails if one still runs after {@link #PATIENCE}. */
    public static List<Ending> run(List<Communicator> communicators, Body body) {
        Ending[] endings = new Ending[communicators.size()];
        List<Thread> threads = new ArrayList<>();
        long start = System.nanoTime();
        for (int i = 0; i < endings.length; i++) {
            Communicator communicator = communicators.get(i);
            int rank = communicator.rank();
            int place = i; // its rank, but where the others are in other processes
            threads.add(new Thread(
                    () -> {
                        Throwable thrown = null;
                        try (communicator) {
                            body.run(communicator);
                        } catch (Throwable e) {
                            thrown = e;
                        }
                        endings[place] = new Ending(rank, thrown, Duration.ofNanos(System.nanoTime() - start));
                    },
                    "rank " + rank));
        }
        threads.forEach(Thread::start);
        threads.forEach(Ranks::join);
        return Arrays.asList(endings);
    }

    public static void join(Thread thread) {
        try {
            thread.join(PATIENCE.toMillis());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        assertThat(thread.isAlive())
                .as("%s hangs at %s", thread.getName(), Arrays.toString(thread.getStackTrace()))
                .isFalse();
    }
}
