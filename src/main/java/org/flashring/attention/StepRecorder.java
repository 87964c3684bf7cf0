package org.flashring.attention;

import jdk.jfr.FlightRecorder;
import org.flashring.attention.BoundStep.BoundBlock;

/**
 * The way to {@link RingStepEvent}: that class is not touched before there is a flight recorder that might want it. A
 * runtime may have none, and to initialise one takes 100 ms, which the first call would spend.
 */
final class StepRecorder {
    private static final boolean PRESENT =
            ModuleLayer.boot().findModule("jdk.jfr").isPresent();

    private StepRecorder() {}

    /** Returns an event that has begun, or null where no recording wants it: then nothing is allocated. */
    static RingStepEvent start() {
        return PRESENT && FlightRecorder.isInitialized() ? RingStepEvent.start() : null;
    }

    /** Notes that the kernel is called. */
    static void enter(RingStepEvent event) {
        if (event != null) {
            event.enter();
        }
    }

    /** Notes that the kernel has returned from {@code block}. */
    static void leave(RingStepEvent event, BoundBlock block) {
        if (event != null) {
            event.leave(block.rows(), block.heads().from(), block.heads().count());
        }
    }

    /** Ends and records a step of a schedule, which all steps before it make number {@code number}. */
    static void end(RingStepEvent event, int rank, int number, BoundStep step, boolean backward) {
        if (event != null) {
            event.end(rank, number, step.owner(), backward, step.bytesSent());
        }
    }

    /** Ends and records an exchange of heads. */
    static void endOfHeads(RingStepEvent event, int rank, int number, boolean backward, long bytesSent) {
        if (event != null) {
            event.headExchange = true;
            event.end(rank, number, -1, backward, bytesSent);
        }
    }
}
