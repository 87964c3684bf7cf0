package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.DType;
import org.flashring.comm.local.LocalGroup;
import org.flashring.support.FencedBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** One world, cut into groups of other sizes from batch to batch. */
@Timeout(60)
class DivisionTest {
    private static final Duration DEADLINE = Duration.ofSeconds(10);

    @Test
    void groupsFollowOneAnother() {
        Division division = Division.of(4, 2, 1, 1);
        assertThat(division.worldSize()).isEqualTo(8);
        assertThat(division.groups()).isEqualTo(4);
        assertThat(IntStream.range(0, 8).map(division::groupOf)).containsExactly(0, 0, 0, 0, 1, 1, 2, 3);
        assertThat(division.members(0)).containsExactly(0, 1, 2, 3);
        assertThat(division.members(1)).containsExactly(4, 5);
        assertThat(division.members(3)).containsExactly(7);
        assertThat(division.size(2)).isEqualTo(1);
        assertThat(division).hasToString("[4, 2, 1, 1]").isEqualTo(Division.of(4, 2, 1, 1));
        assertThat(division).isNotEqualTo(Division.of(4, 1, 2, 1));
    }

    @Test
    void eachBatchHasGroupsOfItsOwn() {
        List<Division> batches = List.of(
                Division.of(4, 2, 1, 1),
                Division.of(8),
                Division.of(1, 3, 4),
                Division.of(4, 2, 1, 1),
                Division.of(1, 1, 1, 1, 1, 1, 1, 1));
        assertThat(Ranks.run(8, DEADLINE, world -> {
                    try (Divisions divisions = new Divisions(world)) {
                        for (Division batch : batches) {
                            Communicator group = divisions.of(batch);
                            int[] members = batch.members(batch.groupOf(world.rank()));
                            assertThat(members[group.rank()]).isEqualTo(world.rank());
                            FencedBuffer value = new FencedBuffer(DType.FLOAT64, 1);
                            value.put(0, 1 << world.rank());
                            group.allReduce(value.memory(0).address(), 1, DType.FLOAT64);
                            assertThat((int) value.get(0))
                                    .isEqualTo(IntStream.of(members)
                                            .map(rank -> 1 << rank)
                                            .sum());
                        }
                        assertThat(divisions.of(Division.of(4, 2, 1, 1))).isSameAs(divisions.of(batches.get(0)));
                    }
                }))
                .allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    @Test
    void otherSizesAreOneErrorOnAllRanks() {
        assertThat(Ranks.run(4, DEADLINE, world -> Division.of(world.rank() == 3 ? new int[] {2, 2} : new int[] {3, 1})
                        .split(world)
                        .close()))
                .allSatisfy(ending -> assertThat(ending.thrown())
                        .isInstanceOf(CommunicationException.class)
                        .hasMessageContaining("rank 3 and rank 0 cannot agree")
                        .hasMessageContaining("[2, 2]")
                        .hasMessageContaining("[3, 1]"));
    }

    @Test
    void aGroupThatFailsNamesItsRanksOfTheWorld() {
        List<Ranks.Ending> endings = Ranks.run(4, DEADLINE, world -> {
            try (Communicator group = Division.of(1, 3).split(world)) {
                if (world.rank() != 2) {
                    group.barrier();
                }
            }
        });
        assertThat(endings.get(0).thrown()).isNull();
        assertThat(List.of(endings.get(1).thrown(), endings.get(3).thrown())).allSatisfy(thrown -> assertThat(thrown)
                .isInstanceOf(CommunicationException.class)
                .hasMessageMatching(
                        "group of ranks 1, 2, 3: rank [02] waits in barrier, but rank 1 has left the group"));
    }

    @Test
    void whatIsNoDivisionIsRefused() {
        assertThatIllegalArgumentException().isThrownBy(() -> Division.of()).withMessageContaining("sizes.length is 0");
        assertThatIllegalArgumentException().isThrownBy(() -> Division.of(2, 0)).withMessageContaining("sizes[1] is 0");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Division.of(Integer.MAX_VALUE, 1))
                .withMessageContaining("sum of sizes is 2147483648");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Division.of(2, 2).groupOf(4))
                .withMessageContaining("rank is 4");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Division.of(2, 2).size(2))
                .withMessageContaining("group is 2");
        try (Communicator alone = LocalGroup.single()) {
            assertThatIllegalArgumentException()
                    .isThrownBy(() -> Division.of(2, 2).split(alone))
                    .withMessageContaining("world.worldSize is 1; it must be 4");
        }
    }
}
