package org.flashring.cli.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.List;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.flashring.comm.Communicator;

/** What each rank of this process does when, in a forward and a backward pass, as a flight recording has it. */
final class Timeline {
    private static final String EVENT = "org.flashring.RingStep";

    /**
     * One step of a rank. Times are nanoseconds from the beginning of the first step of any.
     *
     * @param source rank whose keys are met, -1 for several ranks'
     * @param computeFrom when the kernel was called
     * @param computeTo when it returned; as computeFrom where nothing is computed
     * @param rows of keys that are met
     * @param firstHead first key head that is computed
     * @param heads how many are
     */
    record Step(
            int rank,
            int step,
            boolean backward,
            boolean headExchange,
            int source,
            boolean computed,
            long from,
            long computeFrom,
            long computeTo,
            long to,
            long rows,
            long firstHead,
            long heads,
            long bytesSent) {}

    private Timeline() {}

    /** Returns the steps of {@code pass}, which all ranks call together; empty on other ranks than 0. */
    static List<Step> of(Communicator ranks, Runnable pass) {
        if (ranks.rank() > 0) {
            ranks.barrier(); // rank 0 records
            pass.run();
            ranks.barrier();
            return List.of();
        }
        try (Recording recording = new Recording()) {
            recording.enable(EVENT).withThreshold(Duration.ZERO);
            recording.start();
            ranks.barrier();
            pass.run();
            ranks.barrier();
            recording.stop();
            return steps(recording);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static List<Step> steps(Recording recording) throws IOException {
        Path file = Files.createTempFile("flashring", ".jfr");
        try {
            recording.dump(file);
            List<RecordedEvent> events = RecordingFile.readAllEvents(file).stream()
                    .filter(event -> event.getEventType().getName().equals(EVENT))
                    .sorted(Comparator.comparing(RecordedEvent::getStartTime))
                    .toList();
            return events.stream().map(event -> step(event, events.get(0))).toList();
        } finally {
            Files.delete(file);
        }
    }

    private static Step step(RecordedEvent event, RecordedEvent first) {
        long from = Duration.between(first.getStartTime(), event.getStartTime()).toNanos();
        boolean computed = event.getBoolean("computed");
        long computeFrom = from + event.getDuration("readied").toNanos();
        return new Step(
                event.getInt("rank"),
                event.getInt("step"),
                event.getBoolean("backward"),
                event.getBoolean("headExchange"),
                event.getInt("source"),
                computed,
                from,
                computeFrom,
                computeFrom + event.getDuration("computing").toNanos(),
                from + event.getDuration().toNanos(),
                event.getLong("keys"),
                event.getLong("firstHead"),
                event.getLong("heads"),
                event.getLong("bytesSent"));
    }
}
