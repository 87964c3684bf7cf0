package org.flashring.frameworks;

import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.stream.Collectors;

/**
 * A process with one contestant, which does at each line of its input what the line says and answers on a line that
 * begins with {@value #ANSWER}: "forward" and "step" with milliseconds of processor time, which counts what others do
 * on the machine least, "base" with nothing, "peak" with the most bytes that the process has held since then over what
 * it held before, "sums" with numbers.
 */
final class ContestProcess {
    static final String ANSWER = "contest ";

    private static final OperatingSystemMXBean PROCESS =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private ContestProcess() {}

    public static void main(String[] arguments) throws IOException {
        Contestant contestant =
                Contestant.of(arguments[0], Integer.parseInt(arguments[1]), Boolean.parseBoolean(arguments[2]));
        long base = 0;
        System.out.println(ANSWER + "ready");
        try (BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII))) {
            for (String order = orders.readLine(); order != null; order = orders.readLine()) {
                switch (order) {
                    case "forward" -> answer(millis(contestant::forward));
                    case "step" -> answer(millis(contestant::step));
                    case "base" -> {
                        System.gc(); // what was drawn on Java's heap
                        Files.writeString(Path.of("/proc/self/clear_refs"), "5"); // the peak begins anew
                        base = kilobytes("VmRSS:");
                        answer("ok");
                    }
                    case "peak" -> answer(1024 * (kilobytes("VmHWM:") - base));
                    case "sums" ->
                        answer(Arrays.stream(contestant.sums())
                                .mapToObj(Double::toString)
                                .collect(Collectors.joining(" ")));
                    default -> throw new IllegalArgumentException("no order is called " + order);
                }
            }
        }
    }

    private static void answer(Object answer) {
        System.out.println(ANSWER + answer);
    }

    private static String millis(Runnable pass) {
        long start = PROCESS.getProcessCpuTime();
        pass.run();
        return String.format(Locale.ROOT, "%.3f", (PROCESS.getProcessCpuTime() - start) / 1e6);
    }

    private static long kilobytes(String name) throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith(name)) {
                return Long.parseLong(line.replaceAll("\\D", ""));
            }
        }
        throw new IllegalStateException("/proc/self/status has no " + name);
    }
}
