package org.flashring;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** One ring step in a Java Flight Recorder recording. */
@Name("org.flashring.RingStep")
@Label("Ring step")
@Category("FlashRing")
@Description("Attention of one rank's queries over one block of keys, the exchange that runs beside it included")
@StackTrace(false)
final class RingStepEvent extends Event {
    private static final RingStepEvent PROBE = new RingStepEvent();

    @Label("Rank")
    int rank;

    @Label("Step")
    int step;

    @Label("Rank whose keys these are")
    int source;

    @Label("Backward")
    boolean backward;

    @Label("Computed")
    @Description("False where the mask leaves nothing of the block")
    boolean computed;

    /** Returns an event that has begun, or null where no recording wants it: then nothing is allocated. */
    static RingStepEvent start() {
        if (!PROBE.isEnabled()) {
            return null;
        }
        RingStepEvent event = new RingStepEvent(); // one that was committed keeps its duration
        event.begin();
        return event;
    }

    /** Ends and records what {@link #start} returned. */
    static void end(RingStepEvent event, int rank, int step, int source, boolean backward, boolean computed) {
        if (event != null) {
            event.rank = rank;
            event.step = step;
            event.source = source;
            event.backward = backward;
            event.computed = computed;
            event.commit();
        }
    }
}
