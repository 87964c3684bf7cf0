package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.entry;

import org.flashring.cli.train.dense.PhaseClock.Part;
import org.junit.jupiter.api.Test;

/** Seconds go to the part that they were spent in, step by step. */
class PhaseClockTest {
    /** A clock on which a second passes from each mark to the next, and that is read after the step alone. */
    private static final class Seconds implements PhaseClock.Marks {
        private int set;
        private int last;

        @Override
        public void set(int number) {
            assertThat(number).isEqualTo(set++);
            last = number;
        }

        @Override
        public double seconds(int from, int to) {
            assertThat(from).isLessThan(to);
            assertThat(to).isLessThanOrEqualTo(last);
            return to - from;
        }
    }

    @Test
    void eachPartGetsWhatFollowsItsBeginnings() {
        Seconds seconds = new Seconds();
        PhaseClock clock = new PhaseClock(seconds);
        clock.enter(Part.SYNC); // outside a step
        assertThat(clock.seconds()).isEmpty();
        for (int step = 0; step < 2; step++) {
            seconds.set = 0;
            clock.start();
            for (int layer = 0; layer < 100; layer++) {
                clock.enter(Part.DENSE_FORWARD);
                clock.enter(Part.ATTENTION_FORWARD);
            }
            clock.enter(Part.OPTIMIZER);
            clock.stop();
            clock.enter(Part.SYNC);
            assertThat(clock.seconds())
                    .containsExactly(
                            entry(Part.BATCH, 1.0),
                            entry(Part.DENSE_FORWARD, 100.0),
                            entry(Part.ATTENTION_FORWARD, 100.0),
                            entry(Part.OPTIMIZER, 1.0));
        }
        assertThat(Part.ATTENTION_FORWARD).hasToString("attention forward");
    }

    @Test
    void aClockThatIsOffTellsNothing() {
        PhaseClock clock = PhaseClock.off();
        clock.start();
        clock.enter(Part.HEAD);
        clock.stop();
        assertThat(clock.seconds()).isEmpty();
    }
}
