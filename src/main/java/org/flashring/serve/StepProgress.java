package org.flashring.serve;

import java.util.Arrays;

/** How far a step of a cache has come: how many tokens a row it brings, and which layers have them. */
final class StepProgress {
    private final boolean[] appended;
    private long tokens;

    StepProgress(int layers) {
        this.appended = new boolean[layers];
    }

    /** Returns the tokens of the step; 0 before its first append. */
    long tokens() {
        return tokens;
    }

    /** Notes that {@code layer} has the {@code count} tokens of the step. */
    void appended(int layer, long count) {
        tokens = count;
        appended[layer] = true;
    }

    void requireAppended(int layer) {
        if (!appended[layer]) {
            throw new IllegalStateException(
                    "nothing has been appended to layer " + layer + " in this step; append comes before forward");
        }
    }

    void requireBetweenSteps(String what) {
        if (tokens > 0) {
            throw new IllegalStateException(what + " come between steps; advance ends the one that is under way");
        }
    }

    /** Throws unless every layer has the tokens. */
    void requireComplete() {
        if (tokens == 0) {
            throw new IllegalStateException("nothing has been appended in this step");
        }
        for (int layer = 0; layer < appended.length; layer++) {
            if (!appended[layer]) {
                throw new IllegalStateException(
                        "nothing has been appended to layer " + layer + " in this step; advance ends it for all");
            }
        }
    }

    /** Ends the step: the next append begins another one. */
    void end() {
        tokens = 0;
        Arrays.fill(appended, false);
    }
}
