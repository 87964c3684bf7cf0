package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Device;
import org.flashring.kernel.Capability;
import org.flashring.plan.Plan;
import org.flashring.support.DeviceTensors;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * What wgmma does not take it refuses where it is asked for by name: when that is planned if the dims say so, else by
 * the tensors. AUTO computes it all.
 */
class GpuKernelChoiceTest {
    private static final Device GPU = Device.cuda(0);
    private static final long TOKENS = 200;
    private static final long HEADS = 2;

    @BeforeEach
    void requireWgmma() {
        assumeTrue(
                Capability.all().stream().anyMatch(row -> row.kernel() == Kernel.WGMMA && row.available()),
                "no GPU of this machine has wgmma");
    }

    private static Plan plan(long dim, Kernel kernel) {
        return Plan.of(
                AttentionShape.of(1, HEADS, HEADS, dim, DType.BFLOAT16),
                Layout.contiguous(TOKENS, 1),
                Mask.causal(),
                AttentionOptions.defaults().onCuda().withKernel(kernel));
    }

    @RequiresGpu
    @Test
    void dimsAreRefusedWhenPlanned() {
        assertThatThrownBy(() -> plan(100, Kernel.WGMMA))
                .isInstanceOf(UnsupportedOperationException.class)
                .hasMessage("kernel = 7 (wgmma): rows of q must start on 16 bytes and hold a whole number of them");
        plan(100, Kernel.AUTO);
        plan(104, Kernel.WGMMA);
    }

    /** The tensor that begins 8 bytes behind a border of 16, or none; and what is refused for it. */
    @RequiresGpu
    @ParameterizedTest
    @CsvSource({"none, none", "q, q", "k, k", "v, v", "dout, dout", "out, none", "lse, none", "dq, none", "dk, none"})
    void tensorsAreRefusedByName(String shifted, String refused) {
        pass(Kernel.AUTO, shifted);
        pass(Kernel.MMA, shifted);
        if (refused.equals("none")) {
            pass(Kernel.WGMMA, shifted);
        } else {
            assertThatThrownBy(() -> pass(Kernel.WGMMA, shifted))
                    .isInstanceOf(UnsupportedOperationException.class)
                    .hasMessage("kernel = 7 (wgmma): rows of " + refused
                            + " must start on 16 bytes and hold a whole number of them");
        }
    }

    /** Gradients of the tensors' type are computed in the operation's own memory, which suits. */
    private static void pass(Kernel kernel, String shifted) {
        try (DeviceTensors memory = new DeviceTensors(GPU);
                FlashAttention attention = new FlashAttention(plan(64, kernel), GPU)) {
            Tensor q = tensor(memory, "q", shifted);
            Tensor k = tensor(memory, "k", shifted);
            Tensor v = tensor(memory, "v", shifted);
            Tensor out = tensor(memory, "out", shifted);
            long skipped = shifted.equals("lse") ? 8 : 0;
            Tensor lse = Tensor.lse(
                    memory.memory(TOKENS * HEADS * 4 + skipped).memory().slice(skipped, TOKENS * HEADS * 4),
                    DType.FLOAT32,
                    1,
                    HEADS,
                    TOKENS);
            attention.forward(q, k, v, out, lse);
            attention.backward(
                    q,
                    k,
                    v,
                    out,
                    lse,
                    tensor(memory, "dout", shifted),
                    tensor(memory, "dq", shifted),
                    tensor(memory, "dk", shifted),
                    tensor(memory, "dv", shifted));
        }
    }

    private static Tensor tensor(DeviceTensors memory, String name, String shifted) {
        long bytes = TOKENS * HEADS * 64 * 2;
        long skipped = name.equals(shifted) ? 8 : 0;
        return Tensor.bshd(
                memory.memory(bytes + skipped).memory().slice(skipped, bytes), DType.BFLOAT16, 1, TOKENS, HEADS, 64);
    }
}
