package org.flashring.cli.bench;

import java.io.PrintWriter;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.TransportOption;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.launch.Environment;

/**
 * The ranks of a bench: threads on the host, threads on GPUs over a transport of choice, or, where {@code launch} or
 * another launcher has started several processes, these.
 */
final class BenchRanks {
    /** Of processes on the host, where a pass may take minutes. */
    static final Duration HOST_DEADLINE = Duration.ofMinutes(10);

    private static final Duration DEADLINE = Duration.ofSeconds(60);

    private BenchRanks() {}

    /**
     * Returns what {@code body} returned on rank 0; null in the process of another rank.
     *
     * @param devices the host alone, or the CUDA devices of this process
     * @param out what says that another transport than the one asked for is used
     */
    static <T> T run(
            int ranks,
            List<Device> devices,
            TransportOption transport,
            PrintWriter out,
            Function<Communicator, T> body) {
        if (!devices.get(0).isCuda()) {
            Launched processes = Launched.of(System.getenv());
            if (processes != null) {
                processes.require("--ranks", ranks, ranks);
                AtomicReference<T> result = new AtomicReference<>();
                processes.run(Map.of(), HOST_DEADLINE, rank -> result.set(body.apply(rank)));
                return processes.isFirst() ? result.get() : null;
            }
            return LocalGroup.run(Collections.nCopies(ranks, Device.HOST), LocalGroup.DEFAULT_DEADLINE, body)
                    .get(0);
        }
        Environment launched = launched();
        if (launched != null) {
            Checks.equal("--ranks", ranks, launched.worldSize(), "the number of processes that were started together");
            T result = apply(transport.join(launched, Map.of(), DEADLINE, out), body);
            return launched.rank() == 0 ? result : null;
        }
        return byThreads(transport.create(ranks, devices, DEADLINE), body);
    }

    /** Returns who this process is among several that were started together; null where it is alone. */
    private static Environment launched() {
        if (!Environment.isLaunched(System.getenv())) {
            return null;
        }
        Environment environment = Environment.current();
        return environment.worldSize() > 1 ? environment : null;
    }

    private static <T> T byThreads(List<Communicator> group, Function<Communicator, T> body) {
        List<CompletableFuture<T>> results = new ArrayList<>();
        for (Communicator rank : group) {
            results.add(CompletableFuture.supplyAsync(
                    () -> apply(rank, body), task -> new Thread(task, "flashring rank " + rank.rank()).start()));
        }
        try {
            return results.stream().map(CompletableFuture::join).toList().get(0);
        } catch (CompletionException e) {
            if (e.getCause() instanceof RuntimeException cause) {
                throw cause;
            }
            throw e;
        }
    }

    /**
     * Returns what {@code body} returned, once all ranks are done; if it throws, the others are told before it leaves.
     */
    private static <T> T apply(Communicator rank, Function<Communicator, T> body) {
        try (rank) {
            try {
                T result = body.apply(rank);
                rank.barrier();
                return result;
            } catch (RuntimeException | Error e) {
                rank.abort(e);
                throw e;
            }
        }
    }
}
