package org.flashring.serve;

import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.attention.Forward;
import org.flashring.comm.Communicator;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.comm.peer.PeerGroup;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.device.Cuda;
import org.flashring.launch.Environment;
import org.flashring.support.NoiseTensors;

/**
 * Not a test: how long a step of one new token takes over a cache of 2^20 keys on one GPU, and dealt over the GPUs of
 * all processes ({@code launch --nproc 2 -- org.flashring.serve.DealtCacheBench}; {@code tests/bench/dealt_cache.sh}
 * runs it). In each of ten rounds all ways take turns; a time is that of 50 steps in a row until all ranks have
 * finished. Where there is no GPU it tries a short cache over {@link ProcessGroup}. Rank 0 prints a table.
 */
public final class DealtCacheBench {
    private static final Duration DEADLINE = Duration.ofSeconds(60);
    private static final boolean GPU = Cuda.isAvailable();
    private static final int ROUNDS = 10;
    private static final int STEPS = 50;
    private static final int CHUNK = GPU ? 4096 : 64; // tokens of an append
    private static final long KEYS = GPU ? 1 << 20 : 1 << 10;
    private static final AttentionShape SHAPE = AttentionShape.of(1, 32, 8, 128, DType.BFLOAT16);

    private final Communicator ranks; // that bracket what is timed
    private final Map<String, Cache> ways = new LinkedHashMap<>();

    private DealtCacheBench(Map<String, Communicator> transports) {
        this.ranks = transports.values().iterator().next();
        AttentionOptions options = AttentionOptions.defaults();
        CachePlan contiguous =
                CachePlan.contiguous(SHAPE, 1, KEYS + 1).withNewTokens(CHUNK).with(GPU ? options.onCuda() : options);
        add("one GPU, in one piece", contiguous, null);
        for (int page : new int[] {64, 256}) {
            CachePlan paged = CachePlan.paged(SHAPE, 1, KEYS + 1, page)
                    .withNewTokens(CHUNK)
                    .with(contiguous.options());
            add("one GPU, pages of " + page, paged, null);
            transports.forEach((name, transport) ->
                    add(name + ", pages of " + page, paged.dealtOver(transport.worldSize()), transport));
        }
    }

    public static void main(String[] args) {
        Environment environment = Environment.current();
        Map<String, Communicator> transports = new LinkedHashMap<>();
        try {
            if (GPU) {
                transports.put("NCCL", NcclGroup.join(environment, Map.of(), DEADLINE));
                transports.put("peer copies", PeerGroup.join(environment, Map.of(), DEADLINE, cause -> {
                    throw new IllegalStateException("no peer copies: " + cause);
                }));
            } else {
                transports.put("processes", ProcessGroup.join(environment, Map.of(), DEADLINE));
            }
            DealtCacheBench bench = new DealtCacheBench(transports);
            try {
                bench.table();
            } finally {
                bench.ways.values().forEach(Cache::close);
            }
        } finally {
            transports.values().forEach(Communicator::close);
        }
    }

    /** Adds a way to hold the same keys. */
    private void add(String name, CachePlan plan, Communicator transport) {
        ways.put(name, transport == null ? new Cache(plan, ranks.device()) : new Cache(plan, transport));
    }

    private void table() {
        try (NoiseTensors chunk = new NoiseTensors(ranks.device(), SHAPE, CHUNK, new Random(1));
                NoiseTensors token = new NoiseTensors(ranks.device(), SHAPE, 1, new Random(2))) {
            Forward prompt = chunk.forward();
            Forward last = token.forward(); // the token whose step is taken again and again
            for (Cache cache : ways.values()) {
                for (long length = 0; length < KEYS; length += CHUNK) {
                    cache.append(0, prompt.k(), prompt.v());
                    cache.advance();
                }
                cache.append(0, last.k(), last.v());
            }
            print("| cache of " + KEYS + " keys | us a step (least to most) | of one GPU in one piece |");
            print("|---|---|---|");
            double[][] micros = new double[ways.size()][ROUNDS];
            for (int round = -1; round < ROUNDS; round++) { // the first warms up
                int way = 0;
                for (Cache cache : ways.values()) {
                    double time = time(cache, last);
                    if (round >= 0) {
                        micros[way][round] = time;
                    }
                    way++;
                }
            }
            int way = 0;
            for (String name : ways.keySet()) {
                print(row(name, micros[way++], micros[0]));
            }
            ranks.barrier();
        }
    }

    /** Returns the microseconds of a step, until all ranks had finished. */
    private double time(Cache cache, Forward of) {
        ranks.barrier();
        long start = System.nanoTime();
        for (int step = 0; step < STEPS; step++) {
            cache.forward(0, of.q(), of.out());
        }
        ranks.barrier();
        return (System.nanoTime() - start) / 1e3 / STEPS;
    }

    private static String row(String name, double[] micros, double[] one) {
        double[] shares = new double[micros.length];
        for (int i = 0; i < shares.length; i++) {
            shares[i] = micros[i] / one[i];
        }
        Arrays.sort(shares);
        double[] sorted = micros.clone();
        Arrays.sort(sorted);
        return String.format(
                Locale.ROOT,
                "| %s | %.1f (%.1f to %.1f) | %.3f |",
                name,
                median(sorted),
                sorted[0],
                sorted[sorted.length - 1],
                median(shares));
    }

    private static double median(double[] sorted) {
        return (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2;
    }

    private void print(String line) {
        if (ranks.rank() == 0) {
            System.out.println(line);
        }
    }
}
