package org.flashring.numerics;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.Transfers;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.comm.nccl.NcclOptions;
import org.flashring.comm.peer.PeerGroup;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.device.Cuda;
import org.flashring.launch.Environment;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.flashring.support.NoiseTensors;

/**
 * Not a test: how much of the speed that attention alone has a ring keeps over each transport, on two GPUs with a
 * process each ({@code launch --nproc 2 -- org.flashring.numerics.TransportBench}); {@code tests/bench/transports.sh}
 * runs it. With the argument {@code nccl} it compares ways to set NCCL up in place of transports. Two processes play
 * two neighbours of a ring of eight, whose keys and gradients bounce between them, and a ring of two. In each of ten
 * blocks all ways take turns, and each is compared with attention alone, without exchanges, in the same block: clocks
 * drift from block to block. Where there is no GPU it tries small shapes over {@link ProcessGroup}. Rank 0 prints a
 * table.
 */
public final class TransportBench {
    private static final Duration DEADLINE = Duration.ofSeconds(60);
    private static final boolean GPU = Cuda.isAvailable();
    private static final int BLOCKS = 10;
    private static final int PASSES = 5; // of each way in a block
    private static final int DIM = 128;
    private static final int LARGE = 8; // ranks of the ring of which two play a part
    private static final int FIRST = 3; // the ranks that they play: this one and the next

    /** What is timed: one way to exchange, by an operation of its own; forward where all heads go at once. */
    private record Way(String name, ShardedAttention attention, List<Double> forward, List<Double> backward) {
        boolean carriesAll(AttentionShape shape) {
            return ((Ring) attention.plan().strategy()).heads() >= shape.kvHeads();
        }
    }

    private final Communicator ranks; // that bracket what is timed
    private final Map<String, Communicator> transports;
    private final boolean ofNccl; // compares ways to set NCCL up
    private boolean warm; // "alone" has had what others send, for the power that its bits take, and exchanges no more

    private TransportBench(Map<String, Communicator> transports, boolean ofNccl) {
        this.transports = transports;
        this.ofNccl = ofNccl;
        this.ranks = transports.values().iterator().next();
    }

    public static void main(String[] args) {
        boolean ofNccl = List.of(args).contains("nccl");
        Environment environment = Environment.current();
        Map<String, Communicator> transports = new LinkedHashMap<>();
        try {
            if (!GPU) {
                transports.put("processes", ProcessGroup.join(environment, Map.of(), DEADLINE));
            } else if (ofNccl) {
                nccl().forEach((name, options) -> {
                    transports.put("nccl" + name, NcclGroup.join(environment, Map.of(), DEADLINE, options));
                });
            } else {
                transports.put("nccl", NcclGroup.join(environment, Map.of(), DEADLINE));
            }
            if (GPU) {
                transports.put("peer", PeerGroup.join(environment, Map.of(), DEADLINE, cause -> {
                    throw new IllegalStateException("no peer copies: " + cause);
                }));
            }
            new TransportBench(transports, ofNccl).table();
        } finally {
            transports.values().forEach(Communicator::close);
        }
    }

    /** Returns ways to set NCCL up, by what is printed behind its name. */
    private static Map<String, NcclOptions> nccl() {
        NcclOptions apart = NcclOptions.defaults().withClusterSize(0);
        Map<String, NcclOptions> ways = new LinkedHashMap<>();
        ways.put("", NcclOptions.defaults());
        ways.put(", registered", NcclOptions.defaults().withRegistered(true));
        ways.put(" of 16 channels without clusters", apart.withChannels(16, 16));
        for (int channels : new int[] {4, 8, 16}) {
            ways.put(
                    " of " + channels + " channels without clusters, registered",
                    apart.withChannels(channels, channels).withRegistered(true));
        }
        return ways;
    }

    private void table() {
        if (ranks.worldSize() != 2) {
            throw new IllegalArgumentException("there are " + ranks.worldSize() + " processes; there must be 2");
        }
        print("NCCL: " + (GPU ? NcclGroup.description() : NcclGroup.unavailabilityCause()));
        print("Share of attention alone in the same block: median of " + BLOCKS + " blocks (least to most), " + PASSES
                + " passes of each way a block");
        print("| heads | local tokens | ring of | pass | way | median ms | share of alone |");
        print("|---|---:|---:|---|---|---:|---|");
        for (int world : new int[] {LARGE, 2}) {
            rows(64, 8, 8_192, world);
            rows(64, 64, 4_096, world);
        }
        ranks.barrier();
    }

    private void rows(int heads, int kvHeads, long local, int world) {
        AttentionShape shape =
                AttentionShape.of(1, GPU ? heads : heads / 8, GPU ? kvHeads : kvHeads / 8, DIM, DType.BFLOAT16);
        long tokens = GPU ? local : 64;
        Problem problem = Problem.of(shape, Layout.zigzag(tokens * world, world), Mask.causal());
        Ring halves = new Ring((shape.kvHeads() + 1) / 2);
        Ring quarters = new Ring((shape.kvHeads() + 3) / 4);
        List<Way> ways = new ArrayList<>();
        try (NoiseTensors tensors = new NoiseTensors(ranks.device(), shape, tokens, new Random(ranks.rank()))) {
            ways.add(way("alone", problem, new Ring(), null));
            if (!ofNccl) {
                ways.add(way("alone, half the heads at a time", problem, halves, null));
            }
            transports.forEach((name, transport) -> {
                ways.add(way(name, problem, new Ring(), transport));
                if (!ofNccl) {
                    ways.add(way(name + ", half the heads at a time", problem, halves, transport));
                }
                if (!ofNccl && world == 2) {
                    ways.add(way(name + ", a quarter at a time", problem, quarters, transport));
                }
                if (world > 2) { // of two there is nothing to fetch earlier
                    ways.add(way(name + ", ahead", problem, new Ring(true), transport));
                }
            });
            Forward forward = tensors.forward();
            Backward backward = tensors.backward();
            for (int block = -1; block < BLOCKS; block++) { // the first warms up
                warm = block >= 0;
                for (int i = 0; i < ways.size(); i++) {
                    Way way = ways.get(Math.floorMod(i + block, ways.size()));
                    boolean times = block >= 0;
                    if (way.carriesAll(shape)) {
                        time(times, way.forward(), () -> way.attention().forward(forward, 0));
                    }
                    time(times, way.backward(), () -> way.attention().backward(backward, 0));
                }
            }
            String of = "| " + heads + "/" + kvHeads + " | " + tokens + " | " + world + " | ";
            for (Way way : ways) {
                if (way.carriesAll(shape)) {
                    print(of + "forward | "
                            + row(way.name(), way.forward(), ways.get(0).forward()));
                }
            }
            for (Way way : ways) {
                print(of + "backward | "
                        + row(way.name(), way.backward(), ways.get(0).backward()));
            }
        } finally {
            ways.forEach(way -> way.attention().close());
        }
    }

    private Way way(String name, Problem problem, Ring ring, Communicator transport) {
        AttentionOptions options = AttentionOptions.defaults();
        Plan plan = Plan.of(problem, ring, GPU ? options.onCuda() : options);
        int rank = plan.worldSize() == 2 ? ranks.rank() : FIRST + ranks.rank();
        Communicator playing =
                playing(transport == null ? ranks : transport, plan.worldSize(), rank, transport == null);
        return new Way(name, new ShardedAttention(plan, playing), new ArrayList<>(), new ArrayList<>());
    }

    private static String row(String name, List<Double> millis, List<Double> alone) {
        double[] shares = new double[millis.size()];
        for (int i = 0; i < shares.length; i++) {
            shares[i] = alone.get(i) / millis.get(i);
        }
        Arrays.sort(shares);
        return String.format(
                Locale.ROOT,
                "%s | %.3f | %.3f (%.3f to %.3f) |",
                name,
                median(millis.stream().mapToDouble(Double::doubleValue).toArray()),
                median(shares),
                shares[0],
                shares[shares.length - 1]);
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2;
    }

    private void time(boolean kept, List<Double> millis, Runnable pass) {
        double median = median(pass);
        if (kept) {
            millis.add(median);
        }
    }

    /** Returns the milliseconds of the median pass, until both ranks had finished. */
    private double median(Runnable pass) {
        double[] millis = new double[PASSES];
        for (int n = 0; n < PASSES; n++) {
            ranks.barrier();
            long start = System.nanoTime();
            pass.run();
            ranks.barrier();
            millis[n] = (System.nanoTime() - start) / 1e6;
        }
        return median(millis);
    }

    /**
     * Returns {@code real} as that of rank {@code rank} of a group of {@code world}, all of whose other ranks the other
     * process plays; if {@code silent}, without exchanges once it is warm.
     */
    private Communicator playing(Communicator real, int world, int rank, boolean silent) {
        Transfers batch = new Transfers();
        return (Communicator) Proxy.newProxyInstance(
                Communicator.class.getClassLoader(),
                new Class<?>[] {Communicator.class},
                (self, method, arguments) -> switch (method.getName()) {
                    case "rank" -> rank;
                    case "worldSize" -> world;
                    case "agree" -> null;
                    case "post" -> silent && warm ? 0L : real.post(bounced(batch, (Transfers) arguments[0], real));
                    case "await" -> silent && warm ? null : invoke(real, method, arguments);
                    default -> invoke(real, method, arguments);
                });
    }

    private static Transfers bounced(Transfers to, Transfers batch, Communicator real) {
        int other = 1 - real.rank();
        to.clear();
        for (int i = 0; i < batch.sends(); i++) {
            to.send(batch.sendAddress(i), batch.sendBytes(i), other);
        }
        for (int i = 0; i < batch.receives(); i++) {
            to.receive(batch.receiveAddress(i), batch.receiveBytes(i), other);
        }
        return to;
    }

    private static Object invoke(Communicator real, Method method, Object[] arguments) throws Throwable {
        try {
            return method.invoke(real, arguments);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }

    private void print(String line) {
        if (ranks.rank() == 0) {
            System.out.println(line);
        }
    }
}
