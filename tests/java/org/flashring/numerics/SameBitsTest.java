package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.plan.Gather;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;
import org.flashring.support.Kernels;
import org.flashring.support.MaskRule;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/** Which strategies give the bits of one rank on the CPU, whatever the number of ranks, and which do not. */
class SameBitsTest {
    private static final int LENGTH = 331; // several tiles of every kernel, the last one not full
    private static final int KEY_HEADS = 4;
    private static final List<MaskRule> MASKS = List.of(
            MaskRule.FULL,
            MaskRule.CAUSAL,
            MaskRule.FULL.window(37, 0),
            MaskRule.FULL.window(20, 90),
            MaskRule.CAUSAL.documents(0, 5, 150, 151, LENGTH),
            MaskRule.CAUSAL.prefix(61));
    private static final List<DType> TYPES = List.of(DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16, DType.FLOAT64);

    private static Problem problem(DType dtype, MaskRule mask) {
        return Problem.of(new AttentionShape(1, 8, KEY_HEADS, 40, 24, dtype), LENGTH, mask, 3);
    }

    private static Result run(Problem problem, Layout layout, Strategy strategy, Kernel kernel) {
        return RingRun.of(problem, layout)
                .with(strategy)
                .with(AttentionOptions.defaults().withKernel(kernel))
                .run();
    }

    /** Each mask with every other thing in turn. */
    @Test
    void gatherAndUlyssesGiveTheBitsOfOneRank() {
        for (int i = 0; i < 6; i++) {
            DType dtype = TYPES.get(i % TYPES.size());
            List<Kernel> kernels = Kernels.available(dtype);
            Kernel kernel = kernels.get(i % kernels.size());
            Problem problem = problem(dtype, MASKS.get(i % MASKS.size()));
            Result one = run(problem, Layout.contiguous(LENGTH, 1), new Ring(), kernel);
            requireBits(one, problem, Layout.of(Layout.Policy.values()[i % 3], LENGTH, 2 << i % 3), kernel);
        }
    }

    /** The order in which queries meet keys is the ring's, wherever the keys come from. */
    @Test
    void aRingAStepAheadGivesTheBitsOfTheRing() {
        for (int i = 0; i < 6; i++) {
            DType dtype = TYPES.get(i % TYPES.size());
            List<Kernel> kernels = Kernels.available(dtype);
            Kernel kernel = kernels.get(i % kernels.size());
            Problem problem = problem(dtype, MASKS.get(i % MASKS.size()));
            Layout layout = Layout.of(Layout.Policy.values()[i % 3], LENGTH, 3 + i);
            Result ring = run(problem, layout, new Ring(), kernel);
            Result ahead = run(problem, layout, new Ring(true), kernel);
            for (String name : Result.NAMES) {
                assertThat(ahead.tensor(name))
                        .as("%s of %s, %s", name, problem, layout)
                        .isEqualTo(ring.tensor(name));
            }
        }
    }

    @Tag("full")
    @Test
    void theyDoInEveryCombination() {
        for (DType dtype : TYPES) {
            for (Kernel kernel : Kernels.available(dtype)) {
                for (MaskRule mask : MASKS) {
                    Problem problem = problem(dtype, mask);
                    Result one = run(problem, Layout.contiguous(LENGTH, 1), new Ring(), kernel);
                    for (int world : new int[] {2, 4, 8}) {
                        for (Layout.Policy policy : Layout.Policy.values()) {
                            requireBits(one, problem, Layout.of(policy, LENGTH, world), kernel);
                        }
                    }
                }
            }
        }
    }

    /** Of gather out and lse; of Ulysses all, but dk and dv of key heads that several ranks compute. */
    private static void requireBits(Result one, Problem problem, Layout layout, Kernel kernel) {
        String what = problem + ", " + layout + ", " + kernel;
        Result gathered = run(problem, layout, new Gather(2), kernel);
        assertThat(gathered.out()).as("out of gather, %s", what).isEqualTo(one.out());
        assertThat(gathered.lse()).as("lse of gather, %s", what).isEqualTo(one.lse());
        Result exchanged = run(problem, layout, new Ulysses(), kernel);
        assertThat(exchanged.out()).as("out of ulysses, %s", what).isEqualTo(one.out());
        assertThat(exchanged.lse()).as("lse of ulysses, %s", what).isEqualTo(one.lse());
        assertThat(exchanged.dq()).as("dq of ulysses, %s", what).isEqualTo(one.dq());
        if (layout.worldSize() <= KEY_HEADS) {
            assertThat(exchanged.dk()).as("dk of ulysses, %s", what).isEqualTo(one.dk());
            assertThat(exchanged.dv()).as("dv of ulysses, %s", what).isEqualTo(one.dv());
        }
    }

    /** Why nothing of the kind is said of the ring: what it resumes is rounded otherwise. */
    @Test
    void aRingGivesOtherBits() {
        Problem problem = problem(DType.FLOAT32, MaskRule.FULL);
        Result one = run(problem, Layout.contiguous(LENGTH, 1), new Ring(), Kernel.AUTO);
        Result many = run(problem, Layout.contiguous(LENGTH, 4), new Ring(), Kernel.AUTO);
        assertThat(many.out()).isNotEqualTo(one.out());
    }

    @Test
    void repeatedKeyHeadsGiveTheSameBitsOnEveryRun() {
        Problem problem = problem(DType.BFLOAT16, MaskRule.CAUSAL);
        Layout layout = Layout.zigzag(LENGTH, 8);
        Result first = run(problem, layout, new Ulysses(), Kernel.AUTO);
        for (int i = 0; i < 3; i++) {
            run(problem, layout, new Ulysses(), Kernel.AUTO).requireSameBits(first, "run " + i);
        }
    }
}
