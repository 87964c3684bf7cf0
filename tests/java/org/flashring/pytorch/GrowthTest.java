package org.flashring.pytorch;

import static org.assertj.core.api.Assertions.assertThat;

import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.flashring.Mask;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** Steps leave nothing behind. */
@SuppressWarnings("try") // a scope works by being open
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

    /** A step that kept one of its tensors would leave 128 KiB. */
    private static void assertNoGrowth(int steps) {
        torch.set_num_threads(1);
        long before = 0;
        for (int i = 0; i < steps; i++) {
            try (PointerScope step = new PointerScope()) {
                Tensor q = torch.zeros(1, 16, 16, 128).requires_grad_(true);
                Tensor out = TorchAttention.scaledDotProductAttention(q, q, q, Mask.causal());
                if (i % 2 == 0) { // every other graph is dropped
                    out.sum().backward();
                }
            }
            if (i == steps / 4) {
                before = Pointer.physicalBytes();
            }
        }
        assertThat(Pointer.physicalBytes() - before).isLessThan(steps * (32L << 10) + (4L << 20));
        assertThat(AttentionNode.alive()).isZero();
    }
}
