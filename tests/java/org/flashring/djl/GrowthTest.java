package org.flashring.djl;

import static org.assertj.core.api.Assertions.assertThat;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import java.util.List;
import org.bytedeco.javacpp.Pointer;
import org.flashring.Mask;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** Steps leave nothing behind. */
class GrowthTest {
    @Test
    void hundredsOfSteps() {
        assertNoGrowth(300);
    }

    @Test
    @Tag("full")
    void tenThousandSteps() {
        assertNoGrowth(10_000);
    }

    /** A step that kept one of its tensors would leave 1 MiB; a JVM that warms up takes some of its own. */
    private static void assertNoGrowth(int steps) {
        long before = 0;
        try (NDManager manager = Djl.manager()) {
            for (int i = 0; i < steps; i++) {
                try (NDManager step = manager.newSubManager()) {
                    NDArray q = Djl.learnt(step.zeros(new Shape(1, 128, 16, 128)));
                    try (ThreadGradientCollector collector = new ThreadGradientCollector(List.of(q))) {
                        NDArray out = DjlAttention.scaledDotProductAttention(q, q, q, Mask.causal());
                        if (i % 2 == 0) { // every other graph is dropped
                            collector.backward(out.sum());
                        }
                    }
                }
                if (i == steps / 4) {
                    before = Pointer.physicalBytes();
                }
            }
        }
        assertThat(Pointer.physicalBytes() - before).isLessThan((64L << 20) + steps * (8L << 10));
        assertThat(AttentionNode.alive()).isZero();
    }
}
