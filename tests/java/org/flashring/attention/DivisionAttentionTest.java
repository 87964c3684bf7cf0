package org.flashring.attention;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Communicator;
import org.flashring.comm.Division;
import org.flashring.comm.Divisions;
import org.flashring.comm.Mesh;
import org.flashring.comm.Ranks;
import org.flashring.plan.Gather;
import org.flashring.plan.Ring;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Problem;
import org.flashring.support.Result;
import org.flashring.support.RingRun;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Sequences of other lengths side by side, each on a group of its own, against PyTorch on the whole of each. */
@Timeout(60)
class DivisionAttentionTest {
    private static final AttentionShape SHAPE = AttentionShape.of(1, 4, 2, 8, DType.FLOAT64);

    /** A batch: groups of these sizes, and the length of each one's document. */
    private record Batch(Division division, int... lengths) {}

    private static RingRun run(int length, int ranks, boolean gather) {
        Problem problem = Problem.of(SHAPE, length, MaskRule.CAUSAL, length);
        RingRun run = RingRun.of(problem, Layout.zigzag(length, ranks));
        return gather ? run.with(new Gather(1)) : run.with(new Ring());
    }

    private static void require(RingRun run, Result result) {
        result.requireWithin(1e-12, Oracle.float64(run.problem()), run.toString());
    }

    @Test
    void aLongDocumentHasAWideGroupBesideShortOnes() {
        List<Batch> batches = List.of(
                new Batch(Division.of(2, 1, 1), 37, 11, 5),
                new Batch(Division.of(4), 53),
                new Batch(Division.of(1, 3), 8, 29),
                new Batch(Division.of(2, 1, 1), 2, 1, 3));
        List<List<RingRun>> runs = batches.stream()
                .map(batch -> IntStream.range(0, batch.lengths().length)
                        .mapToObj(group ->
                                run(batch.lengths()[group], batch.division().size(group), group % 2 == 1))
                        .toList())
                .toList();
        List<List<Result>> results = runs.stream()
                .map(groups ->
                        groups.stream().map(run -> Result.none(run.problem())).toList())
                .toList();
        all(4, world -> {
            try (Divisions divisions = new Divisions(world)) {
                for (int i = 0; i < batches.size(); i++) {
                    Division division = batches.get(i).division();
                    int group = division.groupOf(world.rank());
                    RingRun run = runs.get(i).get(group);
                    run.rank(
                            run.plan(),
                            divisions.of(division),
                            run.problem().inputs(),
                            results.get(i).get(group),
                            0);
                }
            }
        });
        for (int i = 0; i < batches.size(); i++) {
            for (int group = 0; group < runs.get(i).size(); group++) {
                require(runs.get(i).get(group), results.get(i).get(group));
            }
        }
    }

    /** Replicas attend at once, each over its own cp group, wherever its ranks stand in the world. */
    @Test
    void replicasOfAMeshDoNotMeet() {
        for (String axes : List.of("dp=2,cp=4", "cp=2x2,dp=2", "tp=2,cp=2,dp=2")) {
            Mesh mesh = Mesh.of(axes);
            List<int[]> groups = mesh.groups("cp");
            List<RingRun> runs = IntStream.range(0, groups.size())
                    .mapToObj(group -> run(21 + 10 * group, mesh.size("cp"), group % 2 == 1))
                    .toList();
            List<Result> results =
                    runs.stream().map(run -> Result.none(run.problem())).toList();
            all(8, world -> {
                int first = mesh.members("cp", world.rank())[0];
                int group = groups.stream().map(members -> members[0]).toList().indexOf(first);
                try (Communicator cp = mesh.split(world, "cp")) {
                    RingRun run = runs.get(group);
                    run.rank(run.plan(), cp, run.problem().inputs(), results.get(group), 0);
                }
            });
            for (int group = 0; group < groups.size(); group++) {
                require(runs.get(group), results.get(group));
            }
        }
    }

    private static void all(int world, Ranks.Body body) {
        assertThat(Ranks.run(world, Duration.ofSeconds(20), body))
                .allSatisfy(ending -> assertThat(ending.thrown()).isNull());
    }
}
