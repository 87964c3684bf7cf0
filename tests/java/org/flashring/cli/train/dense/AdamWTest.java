package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import org.junit.jupiter.api.Test;

/** The rate of each update. */
class AdamWTest {
    @Test
    void theRateRisesByEqualPartsAndStays() {
        AdamW settings = AdamW.of(0.5, 1).withWarmup(4);
        assertThat(new double[] {settings.rate(1), settings.rate(2), settings.rate(3), settings.rate(4)})
                .containsExactly(0.125, 0.25, 0.375, 0.5);
        assertThat(settings.rate(5)).isEqualTo(0.5);
        assertThat(settings.rate(1L << 40)).isEqualTo(0.5);
        assertThat(AdamW.of(0.5, 1).rate(1)).isEqualTo(0.5);
        assertThatThrownBy(() -> settings.withWarmup(-1))
                .hasMessage("--warmup is -1; it must be at least 0")
                .isInstanceOf(IllegalArgumentException.class);
    }

    /** Gradients that stay the same move a value by the rate in each update, but for the decay. */
    @Test
    void updatesTakeTheRateOfTheirNumber() {
        AdamW settings = AdamW.of(0.5, 1).withWarmup(4);
        double[] gradient = {-3};
        double[] value = {0};
        double[] mean = {0};
        double[] square = {0};
        for (int update = 1; update <= 5; update++) {
            double before = value[0];
            settings.update(update, 1, gradient, value, mean, square, 1);
            double rate = Math.min(update, 4) / 8.0;
            assertThat(value[0] - before * (1 - rate * settings.decay())).isCloseTo(rate, within(1e-8));
        }
    }
}
