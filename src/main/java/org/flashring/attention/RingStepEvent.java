package org.flashring.attention;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Timespan;

/** One step of a strategy, ring or other, in a Java Flight Recorder recording. */
@Name("org.flashring.RingStep")
@Label("Step")
@Category("FlashRing")
@Description("Attention of one rank's queries over one block of keys, the exchange that runs beside it included; or an"
        + " exchange of heads")
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
    @Description("False where the mask leaves nothing of the block, and where heads are exchanged")
    boolean computed;

    @Label("Heads are exchanged")
    boolean headExchange;

    @Label("Rows of keys that are met")
    long keys;

    @Label("First key head that is computed")
    long firstHead;

    @Label("Key heads that are computed")
    long heads;

    @Label("Bytes sent")
    @DataAmount
    long bytesSent;

    @Label("Readied")
    @Description("From the beginning until the kernel was called: own keys copied, the exchange posted")
    @Timespan
    long readied;

    @Label("Computing")
    @Description("In the kernel; on a GPU until it was queued")
    @Timespan
    long computing;

    private long began;
    private long entered;

    /** Returns an event that has begun, or null where no recording wants it. Called by {@link StepRecorder} alone. */
    static RingStepEvent start() {
        if (!PROBE.isEnabled()) {
            return null;
        }
        RingStepEvent event = new RingStepEvent(); // one that was committed keeps its duration
        event.begin();
        event.began = System.nanoTime();
        return event;
    }

    /** Notes that the kernel is called. */
    void enter() {
        entered = System.nanoTime();
        readied = entered - began;
    }

    /** Notes that the kernel has returned, and which keys and heads it was given. */
    void leave(long keysMet, long from, long count) {
        computing = System.nanoTime() - entered;
        computed = true;
        keys = keysMet;
        firstHead = from;
        heads = count;
    }

    /** Ends and records the event. */
    void end(int ofRank, int ofStep, int keysOf, boolean ofBackward, long sent) {
        rank = ofRank;
        step = ofStep;
        source = keysOf;
        backward = ofBackward;
        bytesSent = sent;
        commit();
    }
}
