package org.flashring.support;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Processes that run one main class each, with the variables by which torchrun tells ranks who they are. */
public record RankProcesses(List<Process> processes, Path folder) {
    /** Starts a rank per process; what they print goes to files in {@code folder}. */
    public static RankProcesses start(Class<?> main, int worldSize, Path folder) throws IOException {
        return start(List.of(), main, worldSize, folder, Map.of());
    }

    /** As the other method, each behind the words of {@code before} and with more variables. */
    public static RankProcesses start(
            List<String> before, Class<?> main, int worldSize, Path folder, Map<String, String> variables)
            throws IOException {
        int port = freePort();
        List<Process> ranks = new ArrayList<>();
        for (int rank = 0; rank < worldSize; rank++) {
            List<String> line = new ArrayList<>(before);
            line.addAll(command(main));
            ProcessBuilder builder = new ProcessBuilder(line);
            builder.environment().putAll(variables);
            builder.environment()
                    .putAll(Map.of(
                            "RANK",
                            String.valueOf(rank),
                            "LOCAL_RANK",
                            String.valueOf(rank),
                            "WORLD_SIZE",
                            String.valueOf(worldSize),
                            "MASTER_ADDR",
                            "127.0.0.1",
                            "MASTER_PORT",
                            String.valueOf(port)));
            ranks.add(builder.redirectErrorStream(true)
                    .redirectOutput(folder.resolve("rank" + rank).toFile())
                    .start());
        }
        return new RankProcesses(List.copyOf(ranks), folder);
    }

    /** Returns the words that run a main class in a process with this one's classes. */
    public static List<String> command(Class<?> main) {
        return List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                System.getProperty("java.class.path"),
                main.getName());
    }

    /** Returns a port of the loopback that nobody listens at. */
    public static int freePort() {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    public Process rank(int rank) {
        return processes.get(rank);
    }

    /** Sends a rank a signal, such as STOP. */
    public void signal(String name, int rank) throws IOException, InterruptedException {
        Process kill =
                new ProcessBuilder("kill", "-" + name, String.valueOf(rank(rank).pid())).start();
        if (kill.waitFor() != 0) {
            throw new AssertionError("rank " + rank + " takes no signal " + name);
        }
    }

    /** Pauses a rank three times, for half of {@code deadline} each; fails if a rank ends. Ends them all. */
    public void pause(int rank, Duration deadline) throws IOException, InterruptedException {
        try {
            for (int pause = 0; pause < 3; pause++) {
                signal("STOP", rank);
                Thread.sleep(deadline.toMillis() / 2);
                signal("CONT", rank);
                Thread.sleep(deadline.toMillis() / 4);
            }
            for (int each = 0; each < processes.size(); each++) {
                if (!rank(each).isAlive()) {
                    throw new AssertionError("rank " + each + " ended: " + output(each));
                }
            }
        } finally {
            processes.forEach(Process::destroyForcibly);
        }
    }

    /** Returns what a rank has printed so far. */
    public String output(int rank) {
        try {
            return Files.readString(folder.resolve("rank" + rank));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Waits until all ranks have printed {@code text}; fails if one ends before. */
    public void awaitOutput(String text) throws InterruptedException {
        for (int rank = 0; rank < processes.size(); rank++) {
            while (!output(rank).contains(text)) {
                if (!rank(rank).isAlive()) {
                    throw new AssertionError("rank " + rank + " ended: " + output(rank));
                }
                Thread.sleep(50);
            }
        }
    }

    /** Returns a rank's exit code; fails if it does not end in time. */
    public int exitCode(int rank, Duration patience) throws InterruptedException {
        if (!rank(rank).waitFor(patience.toMillis(), TimeUnit.MILLISECONDS)) {
            rank(rank).destroyForcibly();
            throw new AssertionError("rank " + rank + " does not end: " + output(rank));
        }
        return rank(rank).exitValue();
    }
}
