package org.flashring.frameworks;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * The attention of three Java frameworks, each beside this library in its place: a process for each of the six, of one
 * thread, which take turns, so that what disturbs the machine disturbs all. Arguments: tokens, timed turns, "full" or
 * "causal" (then without ND4J, whose attention cannot), and a file for the picture.
 */
public final class FrameworkContest {
    private static final int PAUSE_MILLIS = 50; // for the workers of the last one to go to sleep
    private static final double TOLERANCE = 1e-3; // relative, of sums over half a thousand float32 numbers

    private FrameworkContest() {}

    /**
     * What one process showed.
     *
     * @param name the framework, then "own" or "flashring"
     * @param forward milliseconds of processor time of each forward pass
     * @param step the same of each forward and backward pass
     * @param forwardBytes the most bytes held in forward passes over those before
     * @param stepBytes the same of both passes
     */
    record Showing(String name, double[] forward, double[] step, long forwardBytes, long stepBytes) {}

    public static void main(String[] arguments) throws Exception {
        int length = Integer.parseInt(arguments[0]);
        int turns = Integer.parseInt(arguments[1]);
        boolean causal = arguments[2].equals("causal");
        List<Showing> showings = run(length, turns, causal);
        ContestPage.print(System.out, showings);
        ContestPage.draw(Path.of(arguments[3]), showings, length, causal);
    }

    /**
     * Returns what every process showed, a framework's own before this library in its place.
     *
     * @throws IllegalStateException if the two of a framework disagree
     */
    static List<Showing> run(int length, int turns, boolean causal) throws IOException, InterruptedException {
        List<Child> children = new ArrayList<>();
        try {
            for (String framework : causal ? List.of("djl", "bytedeco") : List.of("djl", "nd4j", "bytedeco")) {
                for (String side : List.of("own", "flashring")) {
                    children.add(new Child(framework + " " + side, length, causal));
                }
            }
            double[][] forward = takeTurns(children, "forward", turns);
            long[] forwardBytes = peaks(children);
            double[][] step = takeTurns(children, "step", turns);
            long[] stepBytes = peaks(children);
            List<Showing> showings = new ArrayList<>();
            for (int i = 0; i < children.size(); i++) {
                if (i % 2 == 1) {
                    requireAgreement(children.get(i - 1), children.get(i));
                }
                showings.add(new Showing(children.get(i).name, forward[i], step[i], forwardBytes[i], stepBytes[i]));
            }
            return showings;
        } finally {
            children.forEach(Child::close);
        }
    }

    /** Returns the times of every child; its first turn is to warm up. */
    private static double[][] takeTurns(List<Child> children, String order, int turns)
            throws IOException, InterruptedException {
        double[][] millis = new double[children.size()][turns];
        for (Child child : children) {
            child.ask("base");
        }
        for (int turn = -1; turn < turns; turn++) {
            for (int i = 0; i < children.size(); i++) {
                Thread.sleep(PAUSE_MILLIS);
                double taken = Double.parseDouble(children.get(i).ask(order));
                if (turn >= 0) {
                    millis[i][turn] = taken;
                }
            }
        }
        return millis;
    }

    private static long[] peaks(List<Child> children) throws IOException {
        long[] bytes = new long[children.size()];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = Long.parseLong(children.get(i).ask("peak"));
        }
        return bytes;
    }

    private static void requireAgreement(Child own, Child flashring) throws IOException {
        double[] expected = numbers(own.ask("sums"));
        double[] actual = numbers(flashring.ask("sums"));
        for (int i = 0; i < expected.length; i++) {
            if (!(Math.abs(actual[i] - expected[i]) <= TOLERANCE * Math.abs(expected[i])) || expected[i] == 0) {
                throw new IllegalStateException(own.name + " and " + flashring.name + " disagree: "
                        + Arrays.toString(expected) + ", " + Arrays.toString(actual));
            }
        }
    }

    private static double[] numbers(String line) {
        return Stream.of(line.split(" ")).mapToDouble(Double::parseDouble).toArray();
    }

    /** A process that {@link ContestProcess} runs in. */
    private static final class Child implements AutoCloseable {
        private final String name;
        private final Process process;
        private final BufferedReader answers;
        private final Writer orders;

        Child(String name, int length, boolean causal) throws IOException {
            this.name = name;
            ProcessBuilder builder = new ProcessBuilder(
                            Path.of(System.getProperty("java.home"), "bin", "java")
                                    .toString(),
                            "-Xmx1g",
                            "-Dorg.bytedeco.javacpp.maxBytes=0",
                            "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
                            "-Dai.djl.offline=true",
                            "-classpath",
                            System.getProperty("java.class.path"),
                            ContestProcess.class.getName(),
                            name,
                            Integer.toString(length),
                            Boolean.toString(causal))
                    .redirectError(ProcessBuilder.Redirect.INHERIT);
            builder.environment().putAll(Map.of("OMP_NUM_THREADS", "1", "FLASHRING_THREADS", "1"));
            this.process = builder.start();
            this.answers = process.inputReader(StandardCharsets.US_ASCII);
            this.orders = process.outputWriter(StandardCharsets.US_ASCII);
            answer();
        }

        String ask(String order) throws IOException {
            orders.write(order + "\n");
            orders.flush();
            return answer();
        }

        private String answer() throws IOException {
            for (String line = answers.readLine(); line != null; line = answers.readLine()) {
                if (line.startsWith(ContestProcess.ANSWER)) {
                    return line.substring(ContestProcess.ANSWER.length());
                }
            }
            throw new IOException("the process of " + name + " has ended; its standard error says why");
        }

        @Override
        public void close() {
            try {
                orders.close(); // the end of its orders
                if (!process.waitFor(10, TimeUnit.SECONDS)) {
                    process.destroyForcibly();
                }
            } catch (IOException e) {
                process.destroyForcibly(); // it has ended, or does not read
            } catch (InterruptedException e) {
                process.destroyForcibly();
                Thread.currentThread().interrupt();
            }
        }
    }
}
