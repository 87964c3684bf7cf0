package org.flashring.cli.verify;

import java.io.IOException;
import java.io.PrintWriter;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.cli.support.DeviceOption;
import org.flashring.cli.support.JsonOption;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.Machine;
import org.flashring.cli.support.Progress;
import org.flashring.cli.support.StrategyOption;
import org.flashring.cli.support.Table;
import org.flashring.cli.support.TransportOption;
import org.flashring.comm.Communicator;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.kernel.Capability;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/**
 * {@code flashring verify}: a strategy, such as the ring, and all kernels of this machine against the plain formula in
 * float64 on one rank.
 */
@Command(
        name = "verify",
        description = {
            "Check the ring and every kernel that the device can run against the plain formula in float64 on one rank:"
                    + " a fixed grid of worlds, layouts and masks, then random cases,"
                    + " a third of them with softcap, sinks or ALiBi."
                    + " Forward and backward.",
            "Allowed error: float64 1e-12; float32 4e-6 (out, lse) or 1e-5 (dq, dk, dv); bfloat16 and float16 2"
                    + " times (out, lse) or"
                    + " 3 times (dq, dk, dv) that of the plain formula computed in the same type, and a rounding"
                    + " per rank for dk and dv that"
                    + " travel in 16 bits.",
            "Started by flashring launch, every case has a rank in each process; the first one judges.",
            "With --device cuda the ranks of a case share one GPU or, every second case, take all GPUs in turn."
        },
        mixinStandardHelpOptions = true,
        sortOptions = false,
        footer = {
            "",
            "Example:",
            "  flashring verify --seed 7 --cases 500",
            "  flashring launch --nproc 4 -- verify",
            "  flashring verify --device cuda --cases 500",
            "  flashring verify --device cuda --ranks 8",
            "  flashring launch --nproc 2 -- verify --device cuda --transport peer"
        })
public final class VerifyCommand implements Callable<Integer> {
    private static final int SHOWN = 10;
    private static final int MOST_RANKS = 1024; // threads of this process
    private static final Duration DEADLINE = Duration.ofMinutes(10);

    @Spec
    private CommandSpec spec;

    @Option(
            names = "--seed",
            defaultValue = "1",
            description = "Where random numbers start (default: ${DEFAULT-VALUE}).")
    private long seed;

    @Option(
            names = "--cases",
            paramLabel = "N",
            defaultValue = "200",
            description = "Random cases beside the fixed ones (default: ${DEFAULT-VALUE}).")
    private int cases;

    @Option(
            names = "--ranks",
            paramLabel = "N",
            description = "Ranks of every case; else each case has its own number, 1 to 9.")
    private Integer ranks;

    @Option(names = "--case", paramLabel = "I", description = "Run case I alone, and say what it is.")
    private Integer only;

    @Mixin
    private DeviceOption device;

    @Mixin
    private StrategyOption strategy;

    @Mixin
    private TransportOption transport;

    @Mixin
    private JsonOption json;

    /** A check that failed. */
    record Failure(int index, String kernel, String what, String scenario, String replay) {}

    /** What {@code --json} writes; checks count (case, kernel) pairs, each of six tensors. */
    record Result(
            Machine machine,
            List<String> devices,
            long seed,
            int cases,
            int checks,
            double seconds,
            Map<DType, Map<Results.Name, Tally.Worst>> worst,
            List<Failure> failures) {}

    private final Launched launched = Launched.of(System.getenv());
    private final Tally tally = new Tally();
    private final List<Failure> failures = new ArrayList<>();
    private List<Device> devices;
    private int checks;

    @Override
    public Integer call() throws IOException {
        Checks.atLeast("--cases", cases, 0);
        if (ranks != null) {
            Checks.between("--ranks", ranks, 1, MOST_RANKS);
        }
        int[] indices = only == null
                ? IntStream.range(0, Scenarios.FIXED + cases).toArray()
                : new int[] {(int) Checks.atLeast("--case", only, 0)};
        strategy.strategy(launched != null ? launched.worldSize() : ranks != null ? ranks : Integer.MAX_VALUE);
        devices = device.devices();
        transport.requireFitting(devices.get(0));
        if (launched == null) {
            transport.requirePeer("be peer where ranks are threads, which share GPUs");
        }
        long start = System.nanoTime();
        if (launched == null) {
            check(indices, ranks == null ? 0 : ranks, null);
        } else {
            requireFitting();
            Consumer<Communicator> part = communicator -> {
                if (launched.isFirst()) {
                    check(indices, launched.worldSize(), communicator);
                } else {
                    take(indices, communicator);
                }
            };
            if (devices.get(0).isCuda()) {
                launched.run(transport, spec.commandLine().getOut(), terms(), DEADLINE, part);
            } else {
                launched.run(terms(), DEADLINE, part);
            }
            if (!launched.isFirst()) {
                return 0; // the first rank's verdict is that of all
            }
        }
        Result result = new Result(
                Machine.current(),
                devices.stream().map(DeviceOption::name).toList(),
                seed,
                indices.length,
                checks,
                (System.nanoTime() - start) / 1e9,
                tally.worst(),
                failures);
        print(spec.commandLine().getOut(), result);
        json.write(result);
        return failures.isEmpty() ? 0 : 1;
    }

    private void requireFitting() {
        if (ranks != null) {
            launched.require("--ranks", ranks, ranks);
        }
    }

    private Map<String, String> terms() {
        List<String> available = Capability.all().stream()
                .filter(row -> row.available() && row.cuda() == devices.get(0).isCuda())
                .map(Capability::name)
                .distinct()
                .toList();
        return Map.of(
                "seed",
                String.valueOf(seed),
                "cases",
                cases + (only == null ? "" : ", of which " + only + " alone"),
                "strategy",
                strategy.strategy().toString(),
                "kernels",
                String.join(" ", available));
    }

    /** Plays another rank than the first in every case. */
    private void take(int[] indices, Communicator communicator) {
        Scenarios scenarios = new Scenarios(seed, communicator.worldSize());
        for (int index : indices) {
            Scenario scenario = scenarios.scenario(index);
            Inputs operands = Inputs.draw(scenario, scenarios.numbers(index));
            for (Kernel kernel : kernels(scenario)) {
                ScenarioRun.run(scenario, fitting(scenario), operands, kernel, communicator);
            }
        }
    }

    private Strategy fitting(Scenario scenario) {
        return strategy.fitting(scenario.layout().worldSize(), scenario.shape().queryHeads());
    }

    /**
     * Checks cases.
     *
     * @param world ranks of every case; 0 for as many as each draws
     * @param communicator of the processes that are the ranks; null where threads are
     */
    private void check(int[] indices, int world, Communicator communicator) {
        Scenarios scenarios = new Scenarios(seed, world);
        try (Progress progress = new Progress("verify", indices.length)) {
            for (int index : indices) {
                Scenario scenario = scenarios.scenario(index);
                if (only != null) {
                    spec.commandLine().getOut().println("case " + index + ": " + scenario);
                }
                check(scenario, Inputs.draw(scenario, scenarios.numbers(index)), communicator);
                progress.step(checks + " checks, " + failures.size() + " failed");
            }
        }
    }

    private void check(Scenario scenario, Inputs operands, Communicator communicator) {
        Results exact = ScenarioRun.run(scenario.exact(), new Ring(), operands, Kernel.REFERENCE, List.of(Device.HOST));
        Map<Results.Name, Double> allowed = Tally.allowed(scenario, operands, exact);
        for (Kernel kernel : kernels(scenario)) {
            checks++;
            Results results;
            try {
                results = communicator == null
                        ? ScenarioRun.run(scenario, fitting(scenario), operands, kernel, ranksOf(scenario))
                        : ScenarioRun.run(scenario, fitting(scenario), operands, kernel, communicator);
            } catch (RuntimeException e) {
                if (communicator != null) {
                    throw e; // processes have no way on
                }
                fail(scenario, kernel, e.getMessage());
                continue;
            }
            for (Results.Name name : Results.Name.values()) {
                double error = Tally.error(results.get(name), exact.get(name));
                if (!tally.check(scenario, name, error, allowed.get(name))) {
                    fail(
                            scenario,
                            kernel,
                            String.format(
                                    Locale.ROOT,
                                    "%s is %.3g off, and %.3g is allowed",
                                    lower(name),
                                    error,
                                    allowed.get(name)));
                }
            }
        }
    }

    private void fail(Scenario scenario, Kernel kernel, String what) {
        failures.add(new Failure(
                scenario.index(),
                lower(kernel),
                what,
                scenario.toString(),
                "./flashring " + (launched == null ? "" : "launch --nproc " + launched.worldSize() + " -- ") + "verify"
                        + (devices.get(0).isCuda() ? " --device cuda" : "") + transport.replay() + strategy.replay()
                        + " --seed " + seed
                        + (ranks == null ? "" : " --ranks " + ranks) + " --case " + scenario.index()));
    }

    /**
     * Returns where the ranks of a case go: every second case has them all on one device, the others on all devices in
     * turn.
     */
    private List<Device> ranksOf(Scenario scenario) {
        return scenario.index() % 2 == 0 ? devices.subList(0, 1) : devices;
    }

    /**
     * Returns the kernels of the device that serve the case, the first as AUTO, which leaves to the others what that
     * one does not take of a case.
     */
    private List<Kernel> kernels(Scenario scenario) {
        AttentionShape shape = scenario.shape();
        Stream<Kernel> rows = Capability.all().stream()
                .filter(row -> row.available() && row.cuda() == devices.get(0).isCuda() && row.dtype() == shape.dtype())
                .filter(row -> row.forward() && row.backward() && row.serves(scenario.score()))
                .filter(row -> shape.headDim() <= row.maxHeadDim() && shape.valueDim() <= row.maxValueDim())
                .filter(row -> row.unequalDims() || shape.headDim() == shape.valueDim())
                .map(Capability::kernel)
                .distinct();
        return Stream.concat(Stream.of(Kernel.AUTO), rows.skip(1)).toList();
    }

    private static void print(PrintWriter out, Result result) {
        Table table = new Table("Element type", "Tensor", " Checks", " Worst error", " Allowed", " Share", " Case");
        result.worst()
                .forEach((dtype, tensors) -> tensors.forEach((name, worst) -> table.row(
                        lower(dtype),
                        lower(name),
                        worst.checks(),
                        String.format(Locale.ROOT, "%.2e", worst.error()),
                        String.format(Locale.ROOT, "%.2e", worst.allowed()),
                        String.format(Locale.ROOT, "%.2f", worst.share()),
                        worst.index())));
        table.print(out);
        out.printf(
                Locale.ROOT,
                "%n%d cases, %d checks on %s in %.1f s: %s%n",
                result.cases(),
                result.checks(),
                String.join(", ", result.devices()),
                result.seconds(),
                result.failures().isEmpty() ? "all passed." : result.failures().size() + " failed.");
        for (Failure failure :
                result.failures().subList(0, Math.min(SHOWN, result.failures().size()))) {
            out.println("FAILED " + failure.kernel() + ": " + failure.what() + " (" + failure.scenario() + ")");
            out.println("       " + failure.replay());
        }
        if (result.failures().size() > SHOWN) {
            out.println("and " + (result.failures().size() - SHOWN) + " more.");
        }
    }

    private static String lower(Enum<?> value) {
        return value.name().toLowerCase(Locale.ROOT);
    }
}
