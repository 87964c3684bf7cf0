package org.flashring.robustness;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Each ring step is one event in a flight recording, with its rank, its step and the time it took. */
@Timeout(60)
class RingEventTest {
    private static final int WORLD = 3;
    private static final AttentionShape SHAPE = new AttentionShape(Operand.BATCH, 4, 2, 8, 6, DType.BFLOAT16);
    /** Contiguous and causal: rank r computes in steps 0 to r alone. */
    private static final Plan PLAN = Plan.of(
            SHAPE, Layout.contiguous(WORLD * Operand.LENGTH, WORLD), Mask.causal(), AttentionOptions.defaults());

    private static final Duration PAUSE = Duration.ofMillis(60);

    @TempDir
    Path folder;

    private record Step(int rank, boolean backward, int step, int source, boolean computed) {}

    @Test
    void aRecordingHoldsEveryStepWithItsOwnDuration() throws Exception {
        List<RecordedEvent> events = record();
        List<Step> expected = new ArrayList<>();
        for (int rank = 0; rank < WORLD; rank++) {
            for (boolean backward : new boolean[] {false, true}) {
                for (int step = 0; step < WORLD; step++) {
                    expected.add(new Step(rank, backward, step, Math.floorMod(rank - step, WORLD), step <= rank));
                }
            }
        }
        assertThat(events.stream().map(RingEventTest::step)).containsExactlyInAnyOrderElementsOf(expected);
        for (int rank = 0; rank < WORLD; rank++) {
            int of = rank;
            List<RecordedEvent> inOrder = events.stream()
                    .filter(event -> event.getInt("rank") == of)
                    .sorted(Comparator.comparing(RecordedEvent::getStartTime))
                    .toList();
            for (int i = 1; i < inOrder.size(); i++) {
                assertThat(inOrder.get(i - 1).getEndTime())
                        .as("end of %s", inOrder.get(i - 1))
                        .isBeforeOrEqualTo(inOrder.get(i).getStartTime());
            }
        }
        // Every rank waits in step 1 of forward for the one that is late to send; no other step is slow.
        Stream<Duration> slow = events.stream()
                .filter(event ->
                        event.getInt("rank") == 0 && event.getInt("step") == 1 && !event.getBoolean("backward"))
                .map(RecordedEvent::getDuration);
        assertThat(slow).singleElement().satisfies(duration -> assertThat(duration)
                .isGreaterThanOrEqualTo(PAUSE));
        Stream<Duration> quick = events.stream()
                .filter(event -> event.getInt("rank") == 0 && event.getInt("step") == 2)
                .map(RecordedEvent::getDuration);
        assertThat(quick).hasSize(2).allSatisfy(duration -> assertThat(duration).isLessThan(PAUSE));
    }

    private static Step step(RecordedEvent event) {
        return new Step(
                event.getInt("rank"),
                event.getBoolean("backward"),
                event.getInt("step"),
                event.getInt("source"),
                event.getBoolean("computed"));
    }

    private List<RecordedEvent> record() throws Exception {
        Path file = folder.resolve("ring.jfr");
        try (Recording recording = new Recording()) {
            recording.enable("org.flashring.RingStep").withThreshold(Duration.ZERO);
            recording.start();
            LocalGroup.run(WORLD, communicator -> {
                Tensor[] t = Stream.of(Operand.values()).map(Operand::good).toArray(Tensor[]::new);
                int secondWait = 4; // after agree, post, await, post
                FaultyCommunicator late = new FaultyCommunicator(communicator, call -> {
                    if (communicator.rank() == 0 && call == secondWait) {
                        sleep();
                    }
                });
                try (RingAttention ring = new RingAttention(PLAN, late)) {
                    Operand.call(ring, false, t);
                    Operand.call(ring, true, t);
                }
                return null;
            });
            recording.stop();
            recording.dump(file);
        }
        return RecordingFile.readAllEvents(file).stream()
                .filter(event -> event.getEventType().getName().equals("org.flashring.RingStep"))
                .toList();
    }

    private static void sleep() {
        try {
            Thread.sleep(PAUSE.toMillis() + 5);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }
}
