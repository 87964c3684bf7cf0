package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.flashring.DType;
import org.flashring.comm.local.LocalGroup;
import org.flashring.support.FencedBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Groups of ranks against lists written out by hand, after the rank orders of Nanotron and Megatron. */
@Timeout(60)
class MeshTest {
    private static String groups(Mesh mesh, String group) {
        return mesh.groups(group).stream()
                .map(members -> Arrays.stream(members).mapToObj(String::valueOf).collect(Collectors.joining(" ")))
                .collect(Collectors.joining(" | "));
    }

    /** Nanotron numbers ranks as numpy does an array of [ep, pp, dp, cp, tp]: the last coordinate changes fastest. */
    @ParameterizedTest
    @CsvSource({
        "tp, 0 1 | 2 3 | 4 5 | 6 7 | 8 9 | 10 11 | 12 13 | 14 15",
        "cp, 0 2 | 1 3 | 4 6 | 5 7 | 8 10 | 9 11 | 12 14 | 13 15",
        "dp, 0 4 | 1 5 | 2 6 | 3 7 | 8 12 | 9 13 | 10 14 | 11 15",
        "pp, 0 8 | 1 9 | 2 10 | 3 11 | 4 12 | 5 13 | 6 14 | 7 15",
        "dp x cp, 0 2 4 6 | 1 3 5 7 | 8 10 12 14 | 9 11 13 15",
        "cp x dp, 0 2 4 6 | 1 3 5 7 | 8 10 12 14 | 9 11 13 15",
        "cp x tp, 0 1 2 3 | 4 5 6 7 | 8 9 10 11 | 12 13 14 15",
        "pp x tp, 0 1 8 9 | 2 3 10 11 | 4 5 12 13 | 6 7 14 15"
    })
    void ranksAreNumberedAsNanotronDoes(String group, String expected) {
        assertThat(groups(Mesh.of("ep=1,pp=2,dp=2,cp=2,tp=2"), group)).isEqualTo(expected);
        assertThat(groups(Mesh.of(2, 2, 2, 2), group)).isEqualTo(expected); // dp, cp, tp, pp
    }

    @ParameterizedTest
    @CsvSource({
        // 16 ranks, tp 2, cp 2, dp 2, pp 2
        "tp-cp-ep-dp-pp, tp, 0 1 | 2 3 | 4 5 | 6 7 | 8 9 | 10 11 | 12 13 | 14 15",
        "tp-cp-ep-dp-pp, cp, 0 2 | 1 3 | 4 6 | 5 7 | 8 10 | 9 11 | 12 14 | 13 15",
        "tp-cp-ep-dp-pp, dp, 0 4 | 1 5 | 2 6 | 3 7 | 8 12 | 9 13 | 10 14 | 11 15",
        "tp-cp-ep-dp-pp, pp, 0 8 | 1 9 | 2 10 | 3 11 | 4 12 | 5 13 | 6 14 | 7 15",
        "tp-cp-ep-dp-pp, dp x cp, 0 2 4 6 | 1 3 5 7 | 8 10 12 14 | 9 11 13 15",
        "tp-cp-ep-pp-dp, tp, 0 1 | 2 3 | 4 5 | 6 7 | 8 9 | 10 11 | 12 13 | 14 15",
        "tp-cp-ep-pp-dp, dp, 0 8 | 1 9 | 2 10 | 3 11 | 4 12 | 5 13 | 6 14 | 7 15",
        "tp-cp-ep-pp-dp, pp, 0 4 | 1 5 | 2 6 | 3 7 | 8 12 | 9 13 | 10 14 | 11 15",
        "tp-cp-ep-pp-dp, dp x cp, 0 2 8 10 | 1 3 9 11 | 4 6 12 14 | 5 7 13 15",
        "cp-tp-pp-dp, cp, 0 1 | 2 3 | 4 5 | 6 7 | 8 9 | 10 11 | 12 13 | 14 15",
        "cp-tp-pp-dp, tp, 0 2 | 1 3 | 4 6 | 5 7 | 8 10 | 9 11 | 12 14 | 13 15",
        "pp-dp-cp-tp, pp, 0 1 | 2 3 | 4 5 | 6 7 | 8 9 | 10 11 | 12 13 | 14 15",
        "pp-dp-cp-tp, dp x cp, 0 2 4 6 | 1 3 5 7 | 8 10 12 14 | 9 11 13 15"
    })
    void ordersAreWrittenAsMegatronWritesThem(String order, String group, String expected) {
        Mesh mesh = Mesh.of("dp=2,ep=1,cp=2,pp=2,tp=2").fastestFirst(order);
        assertThat(groups(mesh, group)).isEqualTo(expected);
    }

    /** Sizes that differ, so that none can stand for another; Megatron's example of 16 GPUs has tp 2 and pp 4. */
    @ParameterizedTest
    @CsvSource({
        "tp, 0 1 | 2 3 | 4 5 | 6 7 | 8 9 | 10 11 | 12 13 | 14 15",
        "pp, 0 4 8 12 | 1 5 9 13 | 2 6 10 14 | 3 7 11 15",
        "dp, 0 2 | 1 3 | 4 6 | 5 7 | 8 10 | 9 11 | 12 14 | 13 15"
    })
    void megatronsOwnExample(String group, String expected) {
        assertThat(groups(Mesh.of("tp=2,dp=2,pp=4").fastestFirst("tp-cp-dp-pp"), group))
                .isEqualTo(expected);
    }

    /** Megatron's hierarchical context parallelism of 16 ranks in levels of 4 inside and 4 outside; here 8 = 2 x 4. */
    @ParameterizedTest
    @CsvSource({
        "inner, 0 1 2 3 | 4 5 6 7 | 8 9 10 11 | 12 13 14 15",
        "outer, 0 4 | 1 5 | 2 6 | 3 7 | 8 12 | 9 13 | 10 14 | 11 15",
        "cp, 0 1 2 3 4 5 6 7 | 8 9 10 11 12 13 14 15",
        "dp x outer, 0 4 8 12 | 1 5 9 13 | 2 6 10 14 | 3 7 11 15",
        "outer x inner, 0 1 2 3 4 5 6 7 | 8 9 10 11 12 13 14 15",
        "dp x cp, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
        "tp, 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15"
    })
    void anAxisMayHaveTwoLevels(String group, String expected) {
        Mesh mesh = Mesh.of("dp=2,cp=2x4");
        assertThat(groups(mesh, group)).isEqualTo(expected);
        assertThat(mesh).hasToString("dp=2,cp=2x4").isEqualTo(Mesh.of(" dp=2, cp=2x4"));
    }

    @Test
    void coordinatesAndRanksAreInverse() {
        Mesh mesh = Mesh.of("tp=3,pp=2,cp=2x3,dp=5");
        assertThat(mesh.worldSize()).isEqualTo(180);
        assertThat(mesh.coordinates(97)).isEqualTo(Map.of("tp", 1, "pp", 1, "cp", 1, "dp", 2)); // 60 + 30 + 5 + 2
        for (int rank = 0; rank < mesh.worldSize(); rank++) {
            assertThat(mesh.rank(mesh.coordinates(rank))).isEqualTo(rank);
            assertThat(mesh.members("dp x cp", rank)[mesh.coordinate("dp x cp", rank)])
                    .isEqualTo(rank);
            assertThat(mesh.coordinate("cp", rank))
                    .isEqualTo(3 * mesh.coordinate("outer", rank) + mesh.coordinate("inner", rank));
        }
        assertThat(mesh.rank(Map.of("pp", 1))).isEqualTo(30);
    }

    @Test
    void tokensOfAStepAreThoseOfAllReplicasWhateverSharesASequence() {
        assertThat(Mesh.of("dp=4,cp=8").dataParallelSize()).isEqualTo(4);
        assertThat(Mesh.of("cp=8").dataParallelSize()).isEqualTo(1);
        assertThat(Mesh.of(4, 8, 2, 3).tokensPerStep(2, 131_072, 5)).isEqualTo(5_242_880);
        Mesh mesh = Mesh.of("dp=3,cp=2");
        assertThat(IntStream.range(0, 6).mapToObj(rank -> mesh.part("dp", rank, 8)))
                .containsExactly(part(0, 3), part(0, 3), part(3, 3), part(3, 3), part(6, 2), part(6, 2));
        assertThat(mesh.part("dp", 5, 1)).isEqualTo(part(1, 0));
    }

    private static Mesh.Part part(long first, long count) {
        return new Mesh.Part(first, count);
    }

    @ParameterizedTest
    @ValueSource(strings = {"dp=2,cp=2x2", "cp=2x2,dp=2", "pp=2,tp=2,cp=2", "tp=2,pp=2,dp=2", "cp=8"})
    void communicatorsHaveTheRanksOfTheirGroups(String axes) {
        Mesh mesh = Mesh.of(axes);
        assertThat(Ranks.run(8, Duration.ofSeconds(10), world -> {
                    for (String group : List.of("dp", "cp", "tp", "pp", "dp x cp", "tp x pp")) {
                        try (Communicator part = mesh.split(world, group)) {
                            assertThat(part.worldSize()).isEqualTo(mesh.size(group));
                            assertThat(part.rank()).isEqualTo(mesh.coordinate(group, world.rank()));
                            assertThat(sumOfRanks(part, world.rank()))
                                    .isEqualTo(Arrays.stream(mesh.members(group, world.rank()))
                                            .sum());
                        }
                    }
                }))
                .allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }

    private static double sumOfRanks(Communicator part, int rank) {
        FencedBuffer value = new FencedBuffer(DType.FLOAT64, 1);
        value.put(0, rank);
        part.allReduce(value.memory(0).address(), 1, DType.FLOAT64);
        return value.get(0);
    }

    @Test
    void aFailureOfAGroupBeginsWithItsName() {
        Mesh mesh = Mesh.of("dp=2,cp=2");
        List<Ranks.Ending> endings = Ranks.run(4, Duration.ofSeconds(10), world -> {
            try (Communicator cp = mesh.split(world, "cp");
                    Communicator alone = cp.split(0, 0)) {
                if (world.rank() != 2) {
                    alone.barrier(); // rank 3 waits in vain; ranks 0 and 1 are none the worse
                }
            }
        });
        assertThat(endings.get(3).thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageStartingWith("cp (ranks 2, 3): rank 1 waits in barrier, but rank 0 has left the group");
        assertThat(endings.get(0).thrown()).isNull();
        assertThat(endings.get(1).thrown()).isNull();
    }

    @Test
    void ranksThatSplitOtherGroupsAreOneErrorOnAll() {
        List<Ranks.Ending> endings =
                Ranks.run(4, Duration.ofSeconds(10), world -> Mesh.of(world.rank() == 2 ? "cp=2,dp=2" : "dp=2,cp=2")
                        .split(world, "dp x cp")
                        .close());
        assertThat(endings).allSatisfy(ending -> assertThat(ending.thrown())
                .isInstanceOf(CommunicationException.class)
                .hasMessageStartingWith("rank 2 and rank 0 cannot agree on plan 1: group"));
    }

    @Test
    void manyRanksAreNamedByTheFirstAndTheLast() {
        assertThat(Mesh.ranks(new int[] {3})).isEqualTo("rank 3");
        assertThat(Mesh.ranks(LongStream.range(0, 64).mapToInt(i -> (int) i).toArray()))
                .isEqualTo("ranks 0, 1, 2, 3, 4, 5, 6, …, 63");
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = ';',
            value = {
                "dp; axes is \"dp\"",
                "dp=; axes is \"dp=\"",
                "''; axes is \"\"",
                "dp=2,,cp=2; axes is \"dp=2,,cp=2\"",
                "dp=2x2x2; axes is",
                "DP=2; axes is",
                "x=2; axes is",
                "dp=-1; axes is",
                "dp=0; dp is 0",
                "cp=2x0; cp is 0",
                "dp=2,dp=2; dp too",
                "dp=2x2,cp=2x2; outer too",
                "inner=3,cp=2x2; inner too",
                "dp=65536,cp=65536; ranks of the mesh is 4294967296"
            })
    void whatIsNoMeshIsRefused(String axes, String sentence) {
        assertThatIllegalArgumentException().isThrownBy(() -> Mesh.of(axes)).withMessageContaining(sentence);
    }

    @Test
    void whatAMeshHasNotIsRefused() {
        Mesh mesh = Mesh.of("dp=2,cp=2");
        refused("group is \"ep\"; it must be one of", () -> mesh.size("ep"));
        refused("group is \"dp,cp\"", () -> mesh.members("dp,cp", 0));
        refused("group is \"inner\"", () -> mesh.groups("inner"));
        refused("group is null", () -> mesh.size(null));
        refused("rank is 4", () -> mesh.coordinate("dp", 4));
        refused("rank is -1", () -> mesh.members("dp", -1));
        refused("dp is 2", () -> mesh.rank(Map.of("dp", 2)));
        refused("coordinates is", () -> mesh.rank(Map.of("ep", 0)));
        refused("count is -1", () -> mesh.part("dp", 0, -1));
        refused("rows is -1", () -> mesh.tokensPerStep(-1, 2, 1));
        refused("order is \"dp\"; it must name cp=2, too", () -> mesh.fastestFirst("dp"));
        refused("order is \"dp-cp-ep\"; it must name axes", () -> mesh.fastestFirst("dp-cp-ep"));
        refused("cp too", () -> mesh.fastestFirst("dp-cp-cp"));
        refused("dp is 0", () -> Mesh.of(0, 1, 1, 1));
        try (Communicator alone = LocalGroup.single()) {
            refused("world.worldSize is 1; it must be 4", () -> mesh.split(alone, "dp"));
            refused("world is null", () -> mesh.split(null, "dp"));
        }
    }

    private static void refused(String sentence, ThrowingCallable call) {
        assertThatIllegalArgumentException().isThrownBy(call).withMessageContaining(sentence);
    }
}
