package org.flashring.support;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.lang.ref.WeakReference;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import java.util.stream.Stream;

/** What groups leave behind in this process, as Linux tells. */
public final class Leaks {
    private static final int GROUPS = 50;

    private Leaks() {}

    private static long descriptors() {
        try (Stream<Path> files = Files.list(Path.of("/proc/self/fd"))) {
            return files.count();
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    private static long threads() {
        return Thread.getAllStackTraces().keySet().stream()
                .filter(thread -> thread.getName().startsWith("flashring"))
                .count();
    }

    /** Returns how many parts of memory this process shares with ranks of a group. */
    public static long mappings() {
        try (Stream<String> maps = Files.lines(Path.of("/proc/self/maps"))) {
            return maps.filter(line -> line.contains("/dev/shm/flashring-")).count();
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    private static void settles(String what, long before, LongSupplier now, long slack) throws InterruptedException {
        for (int i = 0; i < 100 && now.getAsLong() > before + slack; i++) {
            System.gc();
            TimeUnit.MILLISECONDS.sleep(20);
        }
        assertThat(now.getAsLong()).as(what).isLessThanOrEqualTo(before + slack);
    }

    /**
     * Runs {@code one} fifty times. Fails if that costs threads of this library, descriptors, mappings of shared
     * memory, or if any of {@code groups} is still there.
     */
    public static void leavesNothing(List<WeakReference<Object>> groups, Runnable one) throws InterruptedException {
        one.run(); // what is made once and kept
        one.run();
        long threads = threads();
        long descriptors = descriptors();
        for (int i = 0; i < GROUPS; i++) {
            one.run();
        }
        settles("threads", threads, Leaks::threads, 0);
        settles("descriptors", descriptors, Leaks::descriptors, 3); // of the test's own runner
        settles("mappings", 0, Leaks::mappings, 0);
        settles(
                "groups in memory",
                0,
                () -> groups.stream().filter(group -> group.get() != null).count(),
                0);
    }
}
