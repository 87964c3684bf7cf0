package org.flashring.attention;

import org.flashring.attention.BoundStep.BoundBlock;
import org.flashring.comm.Communicator;
import org.flashring.internal.Native;

/** Says where a rank is: to its communicator, for failures, to NVIDIA's profilers and to the flight recorder. */
final class StepProgress {
    private final Communicator communicator;
    private final int first; // number of the first step
    private RingStepEvent event; // null where no recording wants it
    private boolean inStep;

    /** {@code first} numbers the first of the steps, 1 where an exchange of heads comes before them. */
    StepProgress(Communicator communicator, int first) {
        this.communicator = communicator;
        this.first = first;
    }

    void begin(Pass<?> pass, BoundStep step) {
        begin(pass, first + step.number());
    }

    void begin(Pass<?> pass, int number) {
        event = StepRecorder.start();
        communicator.at(pass.phase(), number);
        Native.rangeBegin(pass.direction(), number);
        inStep = true;
    }

    /** The kernel is called next. */
    void computing() {
        StepRecorder.enter(event);
    }

    /** The kernel has returned from {@code block}. */
    void computed(BoundBlock block) {
        StepRecorder.leave(event, block);
    }

    void end(Pass<?> pass, BoundStep step) {
        StepRecorder.end(event, communicator.rank(), first + step.number(), step, pass.isBackward());
        endRange();
    }

    void endOfHeads(Pass<?> pass, int number, long bytesSent) {
        StepRecorder.endOfHeads(event, communicator.rank(), number, pass.isBackward(), bytesSent);
        endRange();
    }

    /** The call ends, and a step with it that has failed. */
    void leave() {
        if (inStep) {
            endRange();
        }
        communicator.at(null, 0);
    }

    private void endRange() {
        Native.rangeEnd();
        inStep = false;
        event = null;
    }
}
