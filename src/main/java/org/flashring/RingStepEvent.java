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

    void end(int atRank, int atStep, int ofSource, boolean isBackward, boolean wasComputed) {
        rank = atRank;
        step = atStep;
        source = ofSource;
        backward = isBackward;
        computed = wasComputed;
        commit();
    }
}
