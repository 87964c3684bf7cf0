package org.flashring.robustness;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.attention.FlashAttention;
import org.flashring.attention.RingAttention;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.plan.Plan;
import org.junit.jupiter.api.Test;

/** Failures speak of the class that their reader called. */
class FlashAttentionNameTest {
    private static final AttentionShape SHAPE = AttentionShape.of(1, 1, 1, 8, DType.FLOAT32);

    @Test
    void afterClose() {
        FlashAttention attention = new FlashAttention(SHAPE, 4, Mask.causal());
        attention.close();
        assertThatThrownBy(() -> attention.forward(null, null, null, null, null))
                .isInstanceOf(IllegalStateException.class)
                .hasMessage("the FlashAttention is closed");
        RingAttention ring = new RingAttention(plan(1), LocalGroup.single());
        ring.close();
        assertThatThrownBy(() -> ring.forward(null, null, null, null, null)).hasMessage("the RingAttention is closed");
    }

    @Test
    void whatIsNotForOneDevice() {
        assertThatThrownBy(() -> new FlashAttention(plan(2)))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("plan.worldSize is 2; it must be 1, since FlashAttention runs on one device");
        assertThatThrownBy(() -> new FlashAttention(plan(1), Device.cuda(0)))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("device is cuda:0; it must be the host, as planned");
    }

    private static Plan plan(int ranks) {
        return Plan.of(SHAPE, Layout.contiguous(4, ranks), Mask.causal(), AttentionOptions.defaults());
    }
}
