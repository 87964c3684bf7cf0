package org.flashring.nd4j;

import static org.assertj.core.api.Assertions.assertThat;

import org.bytedeco.javacpp.Pointer;
import org.flashring.Mask;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** Steps leave nothing behind. */
class GrowthTest {
    @Test
    void hundredsOfSteps() {
        assertNoGrowth(400);
    }

    @Test
    @Tag("full")
    void tenThousandSteps() {
        assertNoGrowth(10_000);
    }

    /** A step that kept one of its arrays would leave 128 KiB. ND4J frees them after the collector has seen them. */
    private static void assertNoGrowth(int steps) {
        INDArray q = Nd4j.ones(DataType.FLOAT, 1, 16, 16, 128);
        long before = 0;
        for (int i = 0; i <= steps; i++) {
            AttentionPass pass = Nd4jAttention.forward(q, q, q, Mask.causal());
            if (i % 2 == 0) { // every other pass is dropped
                pass.backward(pass.out());
            }
            if (i % 100 == 0) {
                System.gc();
            }
            if (i == steps / 4) {
                before = Pointer.physicalBytes();
            }
        }
        assertThat(Pointer.physicalBytes() - before).isLessThan(steps * (32L << 10) + (16L << 20));
    }
}
