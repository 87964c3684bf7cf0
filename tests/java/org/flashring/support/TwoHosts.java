package org.flashring.support;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * Two hosts, here two network namespaces a and b with a memory of their own each, joined by a cable; a is 10.77.0.1, b
 * is 10.77.0.2. A script runs beside them, with {@code on HOST COMMAND} to run something there. All that it starts ends
 * with it.
 */
public final class TwoHosts implements AutoCloseable {
    /** Where host a is found. */
    public static final String MASTER = "10.77.0.1";

    private static final String HOSTS =
            """
            set -e
            mount -t tmpfs none /run
            mkdir /run/netns
            for host in a b; do ip netns add $host; done
            ip link add cable netns a type veth peer name cable netns b
            ip -n a addr add 10.77.0.1/24 dev cable
            ip -n b addr add 10.77.0.2/24 dev cable
            for host in a b; do ip -n $host link set lo up; ip -n $host link set cable up; done
            on() {
                host=$1
                shift
                nsenter --net=/run/netns/$host unshare -m \\
                    sh -c 'mount -t tmpfs -o size=16m none /dev/shm; exec "$@"' sh "$@"
            }
            """;
    private static final List<String> NAMESPACES = List.of(
            "timeout", "-s", "KILL", "100", "unshare", "-rnm", "--pid", "--fork", "--kill-child", "--mount-proc");

    private final Process process;
    private final Path folder;

    private TwoHosts(Process process, Path folder) {
        this.process = process;
        this.folder = folder;
    }

    /** Skips the test where this process may not have network namespaces. */
    public static void assumePossible() throws InterruptedException {
        List<String> line = new ArrayList<>(NAMESPACES);
        line.addAll(List.of("ip", "link", "add", "one", "type", "veth", "peer", "name", "two"));
        boolean possible;
        try {
            possible = new ProcessBuilder(line).start().waitFor() == 0;
        } catch (IOException e) {
            possible = false; // there is no such program
        }
        assumeTrue(possible, "this process may not have network namespaces, or there is no 'ip'");
    }

    /**
     * Starts the hosts and {@code script}, in bash, with {@code words} as its arguments, and FOLDER and what
     * {@code variables} say in its environment.
     */
    public static TwoHosts start(Path folder, String script, List<String> words, Map<String, String> variables)
            throws IOException {
        List<String> line = new ArrayList<>(NAMESPACES);
        line.addAll(List.of("bash", "-c", HOSTS + script, "bash"));
        line.addAll(words);
        ProcessBuilder builder = new ProcessBuilder(line)
                .redirectErrorStream(true)
                .redirectOutput(folder.resolve("hosts").toFile());
        builder.environment().put("FOLDER", folder.toString());
        builder.environment().putAll(variables);
        return new TwoHosts(builder.start(), folder);
    }

    /** Returns what is in the folder's file {@code name}; empty if there is none yet. */
    public String file(String name) throws IOException {
        Path file = folder.resolve(name);
        return Files.exists(file) ? Files.readString(file) : "";
    }

    /** Makes a file appear, all of it at once. */
    public void write(String name, String text) throws IOException {
        Path file = Files.writeString(folder.resolve(name + ".part"), text);
        Files.move(file, folder.resolve(name), StandardCopyOption.ATOMIC_MOVE);
    }

    /** Waits until {@code condition} holds; fails if the script ends before. */
    public void await(Condition condition) throws Exception {
        while (!condition.holds()) {
            if (!process.isAlive()) {
                throw new AssertionError("the script has ended: " + file("hosts") + file("a") + file("b"));
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    /** Something to wait for. */
    @FunctionalInterface
    public interface Condition {
        boolean holds() throws Exception;
    }

    /** Waits for the script; fails if it does not end in time. */
    public void end(Duration patience) throws Exception {
        if (!process.waitFor(patience.toMillis(), TimeUnit.MILLISECONDS)) {
            throw new AssertionError("the script does not end: " + file("hosts"));
        }
    }

    /** Ends the hosts, and all that runs there, if they are there still. */
    @Override
    public void close() {
        process.descendants().forEach(ProcessHandle::destroyForcibly);
        process.destroyForcibly().onExit().join();
    }
}
