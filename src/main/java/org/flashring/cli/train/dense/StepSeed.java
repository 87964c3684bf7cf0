package org.flashring.cli.train.dense;

import java.util.Random;

/** What chooses the batch of a step: a pure function of the run's seed and the step's number. */
public final class StepSeed {
    private StepSeed() {}

    /** Returns the numbers of a step, the same on every rank and whatever steps were done before. */
    public static Random random(long seed, long step) {
        return new Random(InitialValues.seed(seed, step));
    }
}
