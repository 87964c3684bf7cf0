package org.flashring.attention;

import jdk.jfr.FlightRecorder;

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

    /** Ends and records what {@link #start} returned. */
    static void end(RingStepEvent event, int rank, int step, int source, boolean backward, boolean computed) {
        if (event != null) {
            event.end(rank, step, source, backward, computed);
        }
    }
}
