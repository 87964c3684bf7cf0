package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Mesh;
import org.flashring.plan.Ring;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What memory a step takes is known before, and no two blocks meet while both are in use. */
class StepMemoryTest {
    private static final DenseModel SMALL = DenseModel.of(3, 4, 2, 64, 176, 256);

    private static DenseSettings settings(Recompute recompute, long length) {
        return settings(SMALL, recompute, length);
    }

    private static DenseSettings settings(DenseModel model, Recompute recompute, long length) {
        return DenseSettings.of(model, DType.FLOAT32, Mesh.of("cp=3"), 1, Layout.Policy.ZIGZAG, length, new Ring())
                .with(recompute);
    }

    @Test
    void blocksInUseTogetherLieApartAndOthersShare() {
        Random random = new Random(2);
        for (int trial = 0; trial < 50; trial++) {
            List<MemoryPlan.Block> blocks = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                Set<Phase> phases = EnumSet.noneOf(Phase.class);
                for (Phase phase : Phase.values()) {
                    if (random.nextInt(3) == 0) {
                        phases.add(phase);
                    }
                }
                blocks.add(new MemoryPlan.Block("block " + i, random.nextInt(5000), phases));
            }
            MemoryPlan plan = new MemoryPlan(blocks, Map.of("other", 7L));
            assertThat(plan.total()).isEqualTo(plan.arena() + 7);
            for (MemoryPlan.Block a : blocks) {
                long start = plan.offset(a.name());
                assertThat(start).isBetween(0L, plan.arena() - a.bytes());
                assertThat(start % 64).isZero();
                for (MemoryPlan.Block b : blocks) {
                    boolean together = a != b && a.phases().stream().anyMatch(b.phases()::contains);
                    boolean meet =
                            start < plan.offset(b.name()) + b.bytes() && plan.offset(b.name()) < start + a.bytes();
                    assertThat(together && meet).as("%s and %s", a, b).isFalse();
                }
            }
        }
        MemoryPlan shared = new MemoryPlan(
                List.of(
                        new MemoryPlan.Block("a", 640, EnumSet.of(Phase.MLP)),
                        new MemoryPlan.Block("b", 640, EnumSet.of(Phase.HEAD))),
                Map.of());
        assertThat(shared.arena()).isEqualTo(640);
    }

    /** The plan holds no more than what its fullest phase needs, but for what does not fit side by side. */
    @ParameterizedTest
    @EnumSource
    void theArenaIsNearTheFullestPhase(Recompute recompute) {
        MemoryPlan plan = StepMemory.of(settings(recompute, 3001), 0);
        long most = 0;
        for (Phase phase : Phase.values()) {
            most = Math.max(
                    most,
                    plan.blocks().stream()
                            .filter(block -> block.phases().contains(phase))
                            .mapToLong(MemoryPlan.Block::bytes)
                            .sum());
        }
        assertThat(plan.arena()).isBetween(most, most + most / 20);
    }

    @Test
    void whatIsComputedAgainTakesLess() {
        assertThat(MemoryLimit.bytes(settings(Recompute.KEEP, 3001)))
                .isLessThan(MemoryLimit.bytes(settings(Recompute.NONE, 3001)));
        assertThat(MemoryLimit.bytes(settings(Recompute.FULL, 3001)))
                .isLessThan(MemoryLimit.bytes(settings(Recompute.KEEP, 3001)));
    }

    /** All layers but two go, with their input alone where backward computes attention again. */
    @Test
    void whatIsOffloadedLeavesTheDevice() {
        for (Recompute recompute : Recompute.values()) {
            DenseSettings here = settings(DenseModel.of(7, 4, 2, 64, 176, 256), recompute, 3001);
            DenseSettings gone = here.withOffload(true);
            long tokens = StepMemory.tokens(here, 0);
            long row = switch (recompute) { // bytes of a token
                        case FULL -> 256;
                        case KEEP -> 528;
                        case NONE -> 2704;
                    };
            assertThat(OffloadedLayers.bytes(gone, tokens)).isEqualTo(5 * tokens * row);
            assertThat(StepMemory.of(here, 0).arena() - StepMemory.of(gone, 0).arena())
                    .isCloseTo(5 * tokens * row, within(tokens * row / 20)); // gaps come and go
            assertThat(StepMemory.of(gone, 0).bytesByName()).containsEntry("offloaded", 5 * tokens * row);
            assertThat(MemoryLimit.pinned(gone.onCuda())).isEqualTo(5 * tokens * row);
            assertThat(MemoryLimit.pinned(here.onCuda())).isZero();
            long both = 10 * tokens * row;
            MemoryLimit.requirePinned(gone.onCuda(), 2, both);
            assertThatThrownBy(() -> MemoryLimit.requirePinned(gone.onCuda(), 2, both - 1))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessage(
                            "--offload needs " + both + " bytes of the host's memory for 2 ranks; it must be at most"
                                    + " the " + (both - 1) + " that are free");
        }
    }

    @Test
    void aRefusalNamesTheLongestRowsThatFit() {
        DenseSettings settings = settings(Recompute.KEEP, 3001);
        long limit = MemoryLimit.bytes(settings) / 2;
        long keep = MemoryLimit.longest(settings, limit, 3001);
        long full = MemoryLimit.longest(settings.with(Recompute.FULL), limit, 3001);
        assertThat(keep).isBetween(1L, full - 1);
        assertThat(MemoryLimit.bytes(settings.withLength(keep))).isLessThanOrEqualTo(limit);
        assertThat(MemoryLimit.bytes(settings.withLength(keep + 1))).isGreaterThan(limit);
        assertThat(MemoryLimit.fastest(List.of(settings.withLength(keep)), limit)
                        .length())
                .isEqualTo(keep);
        assertThatThrownBy(() -> MemoryLimit.fastest(List.of(settings), limit))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("--memory is " + limit)
                .hasMessageContaining("with --recompute keep. The longest")
                .hasMessageContaining("keep " + keep + ", keep --head-groups 2 ")
                .hasMessageContaining(", full " + full + ", full --head-groups 2 ");
        assertThatThrownBy(() -> MemoryLimit.fastest(List.of(settings), 1))
                .hasMessageEndingWith(". No row fits, however short.");
    }

    @Test
    void theFirstChoiceThatFitsIsTaken() {
        DenseSettings keep = settings(Recompute.KEEP, 3001);
        DenseSettings grouped = keep.withHeadGroups(2);
        DenseSettings full = grouped.with(Recompute.FULL);
        assertThat(MemoryLimit.bytes(grouped)).isLessThan(MemoryLimit.bytes(keep));
        List<DenseSettings> choices = List.of(keep, grouped, full);
        for (DenseSettings choice : choices) {
            assertThat(MemoryLimit.fastest(choices, MemoryLimit.bytes(choice))).isSameAs(choice);
        }
        long least = MemoryLimit.bytes(full);
        assertThatThrownBy(() -> MemoryLimit.fastest(choices, least - 1))
                .hasMessageContaining("it must be at least " + least + " for rows of 3001 tokens with --recompute full"
                        + " --head-groups 2.");
    }

    /** The picture shows what is planned: all blocks in their places, and what lies outside behind them. */
    @Test
    void theMapEndsWhereThePlanDoes() {
        MemoryPlan plan = StepMemory.of(settings(Recompute.KEEP, 301), 1);
        List<PlacedBlock> map = MemoryLimit.map(settings(Recompute.KEEP, 301), 1);
        PlacedBlock last = map.get(map.size() - 1);
        assertThat(last.offset() + last.bytes()).isEqualTo(plan.total());
        assertThat(map)
                .filteredOn(block -> block.name().equals("x"))
                .singleElement()
                .satisfies(x -> {
                    assertThat(x.offset()).isEqualTo(plan.offset("x"));
                    assertThat(x.phases()).contains(Phase.HEAD).doesNotContain(Phase.UPDATE);
                });
    }
}
