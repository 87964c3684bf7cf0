package org.flashring.attention;

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
    @Description("-1 where they are several ranks'")
    int source;

    @Label("Backward")
    boolean backward;

    @Label("Computed")
    @Description("False where the mask leaves nothing of the block")
    boolean computed;

    /** Returns an event that has begun, or null where no recording wants it. Called by {@link StepRecorder} alone. */
    static RingStepEvent start() {
        if (!PROBE.isEnabled()) {
            return null;
        }
        RingStepEvent event = new RingStepEvent(); // one that was committed keeps its duration
        event.begin();
        return event;
    }

    /** Ends and records the event. */
    void end(int ofRank, int ofStep, int keysOf, boolean ofBackward, boolean wasComputed) {
        rank = ofRank;
        step = ofStep;
        source = keysOf;
        backward = ofBackward;
        computed = wasComputed;
        commit();
    }
}
