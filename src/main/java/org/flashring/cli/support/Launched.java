package org.flashring.cli.support;

import java.io.PrintWriter;
import java.time.Duration;
import java.util.Map;
import java.util.function.Consumer;
import org.flashring.comm.Communicator;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.internal.Checks;
import org.flashring.launch.Environment;

/** The processes that {@code flashring launch} or torchrun started together, of which this is one: each is a rank. */
public final class Launched {
    private final Environment environment;
    private final int ranksHere;

    private Launched(Environment environment, int ranksHere) {
        this.environment = environment;
        this.ranksHere = ranksHere;
    }

    /**
     * Returns those that {@code variables} tell of; null if none do. Another launcher's are left alone: a shell inside
     * a SLURM job has them too.
     */
    public static Launched of(Map<String, String> variables) {
        if (!variables.containsKey("RANK") || !variables.containsKey("WORLD_SIZE")) {
            return null;
        }
        Environment environment = Environment.of(variables);
        String here = variables.getOrDefault("LOCAL_WORLD_SIZE", "");
        return new Launched(
                environment, here.matches("[1-9]\\d{0,5}") ? Integer.parseInt(here) : environment.worldSize());
    }

    /** Returns their number. */
    public int worldSize() {
        return environment.worldSize();
    }

    /** Returns how many of them are on this host, as far as their launcher says; else all. */
    public int ranksHere() {
        return ranksHere;
    }

    /** Returns whether this is the one that speaks for all. */
    public boolean isFirst() {
        return environment.rank() == 0;
    }

    /**
     * Checks a number of ranks that was asked for.
     *
     * @throws IllegalArgumentException unless there are as many processes
     */
    public void require(String option, Object value, int ranks) {
        if (ranks != worldSize()) {
            throw Checks.broken(option, value, "be of " + worldSize() + " ranks, the processes that were started");
        }
    }

    /**
     * Runs this process's rank, on the host, once all have come with the same {@code terms}. If it throws, the others
     * learn why.
     */
    public void run(Map<String, String> terms, Duration deadline, Consumer<Communicator> body) {
        run(ProcessGroup.join(environment, terms, deadline), body);
    }

    /** As the other method, on a CUDA device, over {@code transport}. */
    public void run(
            TransportOption transport,
            PrintWriter out,
            Map<String, String> terms,
            Duration deadline,
            Consumer<Communicator> body) {
        run(transport.join(environment, terms, deadline, out), body);
    }

    private static void run(Communicator joined, Consumer<Communicator> body) {
        try (Communicator communicator = joined) {
            try {
                body.accept(communicator);
            } catch (RuntimeException | Error e) {
                communicator.abort(e);
                throw e;
            }
        }
    }
}
