package org.flashring.cli.launch;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.Charset;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.flashring.cli.support.StopRequest;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.device.Cuda;
import org.flashring.launch.Environment;
import org.flashring.launch.Secret;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code flashring launch}: one process per rank, with torchrun's variables. */
@Command(
        name = "launch",
        description = "Run a main class or a flashring command in one process per rank, as torchrun does.",
        mixinStandardHelpOptions = true,
        footer = {
            "",
            "The ranks share a new job secret, unless FLASHRING_SECRET or FLASHRING_SECRET_FILE gives one.",
            "Each computes with its share of this host's cores, at least one thread, unless FLASHRING_THREADS"
                    + " says otherwise.",
            "train, verify and bench join: on the host, through shared memory, or sockets alone with"
                    + " FLASHRING_MEDIUM=sockets.",
            "The first rank that fails decides the exit code; the others then have five seconds to end.",
            "Ctrl-C asks all ranks to end, a second one ends them at once.",
            "On several hosts run it on each, with the same --nnodes, --master-addr and --port and the same secret.",
            "",
            "Example:",
            "  flashring launch --nproc 2 -- com.example.Train --steps 100",
            "  flashring launch --nproc 4 -- train --text README.md",
            "  flashring launch --nproc 4 --nnodes 2 --master-addr n0 --port 9000 -- verify"
        })
public final class LaunchCommand implements Callable<Integer> {
    private static final int GRACE_SECONDS = 5;
    private static final String THREADS = "FLASHRING_THREADS";

    /** How many streams of a process do not queue behind each other; of {@code PeerGroup}'s, many wait for peers. */
    private static final String CONNECTIONS = "CUDA_DEVICE_MAX_CONNECTIONS";

    private static final String RUN = "TORCHELASTIC_RUN_ID"; // on several hosts the secret tells runs apart
    private static final String MOST_CONNECTIONS = "32";

    @Spec
    private CommandSpec spec;

    @Option(names = "--nproc", required = true, paramLabel = "N", description = "Processes to start.")
    private int processes;

    @Option(names = "--port", paramLabel = "PORT", description = "Where rank 0 listens; a free port unless given.")
    private int port;

    @Option(names = "--nnodes", paramLabel = "N", defaultValue = "1", description = "Hosts of the run (default: 1).")
    private int hosts;

    @Option(
            names = "--node-rank",
            paramLabel = "R",
            defaultValue = "0",
            description = "Which of the hosts this is, from 0; it has the ranks from R times --nproc on (default: 0).")
    private int host;

    @Option(names = "--master-addr", paramLabel = "ADDRESS", description = "Of host 0, where there are several.")
    private String masterAddress;

    @Parameters(
            arity = "1..*",
            paramLabel = "COMMAND",
            description = "A main class, with dots in its name, or a flashring command; then its arguments.")
    private List<String> command;

    private final String secret = Secret.random();

    /** A rank that has ended. */
    private record Ending(int rank, int exitCode) {}

    @Override
    public Integer call() throws IOException, InterruptedException {
        check();
        unpackNatives();
        int masterPort = port > 0 ? port : freePort();
        List<Process> ranks = new CopyOnWriteArrayList<>();
        BlockingQueue<Ending> endings = new LinkedBlockingQueue<>();
        Thread killer = new Thread(() -> ranks.forEach(Process::destroyForcibly));
        Runtime.getRuntime().addShutdownHook(killer);
        // Unlike a Process's own, a handle's leaves output open.
        Runnable ask = () -> ranks.forEach(rank -> rank.toHandle().destroy());
        try (StopRequest stop = new StopRequest(ask, () -> ranks.forEach(Process::destroyForcibly))) {
            for (int local = 0; local < processes; local++) {
                ranks.add(start(local, masterPort, endings));
            }
            if (stop.isAsked()) {
                ask.run(); // those that were not there yet when the signal came
            }
            int exitCode = exitCode(endings, stop);
            return exitCode != 0 && stop.isAsked() ? stop.exitCode() : exitCode;
        } finally {
            ranks.forEach(Process::destroyForcibly);
            Runtime.getRuntime().removeShutdownHook(killer);
        }
    }

    /** Returns the exit code of the first rank that fails, once all have ended, or the others have had their time. */
    private int exitCode(BlockingQueue<Ending> endings, StopRequest stop) throws InterruptedException {
        int exitCode = 0;
        for (int ended = 0; ended < processes; ended++) {
            Ending ending = exitCode == 0 ? endings.take() : endings.poll(GRACE_SECONDS, TimeUnit.SECONDS);
            if (ending == null) {
                break;
            }
            if (ending.exitCode() != 0 && exitCode == 0) {
                exitCode = ending.exitCode();
                if (!stop.isAsked()) {
                    spec.commandLine()
                            .getErr()
                            .println("flashring launch: rank " + ending.rank() + " ended with exit code " + exitCode);
                }
            }
        }
        return exitCode;
    }

    private void check() {
        require(processes >= 1, "--nproc is " + processes + "; it must be at least 1");
        require(hosts >= 1, "--nnodes is " + hosts + "; it must be at least 1");
        require(
                host >= 0 && host < hosts,
                "--node-rank is " + host + "; it must lie in [0, " + (hosts - 1) + "], one of --nnodes = " + hosts);
        require(
                (masterAddress != null) == (hosts > 1),
                masterAddress == null
                        ? "--master-addr is missing; it must name host 0 where --nnodes is " + hosts
                        : "--master-addr is " + masterAddress + "; it must be left out on one host");
        require(hosts == 1 || port > 0, "--port is missing; it must be the same on all --nnodes = " + hosts + " hosts");
        require(
                hosts == 1 || Secret.of(System.getenv()).isGiven(),
                Secret.VARIABLE + " is not set; it, or " + Secret.FILE_VARIABLE
                        + ", must give the same secret on all hosts");
    }

    private void require(boolean kept, String otherwise) {
        if (!kept) {
            throw new CommandLine.ParameterException(spec.commandLine(), otherwise);
        }
    }

    /** Unpacks the libraries here, so that the ranks find them and do not wait for each other. */
    private static void unpackNatives() {
        if (Cuda.isAvailable()) {
            NcclGroup.unavailabilityCause();
        }
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        }
    }

    /** Returns how many threads a process computes with on the host, so that all together have a core each. */
    private int threadsEach() {
        return Math.max(1, Runtime.getRuntime().availableProcessors() / processes);
    }

    private Process start(int local, int masterPort, BlockingQueue<Ending> endings) throws IOException {
        int rank = host * processes + local;
        List<String> line = new ArrayList<>();
        line.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        line.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
        line.addAll(List.of("-cp", System.getProperty("java.class.path")));
        if (!command.get(0).contains(".")) {
            line.add(spec.root().userObject().getClass().getName());
        }
        line.addAll(command);
        ProcessBuilder builder = new ProcessBuilder(line).redirectErrorStream(true);
        Map<String, String> variables = builder.environment();
        variables.put("RANK", String.valueOf(rank));
        variables.put("LOCAL_RANK", String.valueOf(local));
        variables.put("WORLD_SIZE", String.valueOf(hosts * processes));
        variables.put("LOCAL_WORLD_SIZE", String.valueOf(processes));
        variables.put("MASTER_ADDR", hosts == 1 ? "127.0.0.1" : masterAddress);
        variables.put("MASTER_PORT", String.valueOf(masterPort));
        if (hosts == 1) {
            variables.put(RUN, String.valueOf(ProcessHandle.current().pid()));
            variables.remove(Environment.BIND_VARIABLE); // all are on this host
        }
        variables.putIfAbsent(THREADS, String.valueOf(threadsEach()));
        variables.putIfAbsent(CONNECTIONS, MOST_CONNECTIONS);
        if (!Secret.of(System.getenv()).isGiven()) {
            variables.put(Secret.VARIABLE, secret);
        }
        Process process = builder.start();
        process.getOutputStream().close();
        Thread reader = new Thread(
                () -> {
                    copy(process, "[rank " + rank + "] ");
                    endings.add(new Ending(rank, process.onExit().join().exitValue()));
                },
                "output of rank " + rank);
        reader.setDaemon(true);
        reader.start();
        return process;
    }

    private void copy(Process process, String prefix) {
        PrintWriter out = spec.commandLine().getOut();
        try (BufferedReader lines =
                new BufferedReader(new InputStreamReader(process.getInputStream(), Charset.defaultCharset()))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                out.println(prefix + line);
                out.flush();
            }
        } catch (IOException e) {
            out.println(prefix + "(its output is lost: " + e.getMessage() + ")");
        }
    }
}
