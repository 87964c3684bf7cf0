package org.flashring.comm.nccl;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.Ranks;
import org.flashring.device.Device;
import org.flashring.launch.Environment;
import org.flashring.support.Disagreement;
import org.flashring.support.RankProcesses;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Ranks on GPUs compare plans on the host, whatever their devices are at; parts of a group do so by themselves. */
@RequiresGpu(value = Disagreement.WORLD, nccl = true)
@Timeout(180)
class NcclAgreementTest {
    private static final int WORLD = Disagreement.WORLD;
    private static final Duration DEADLINE = Duration.ofSeconds(20);
    private static final String OTHER = "rank 2 and rank 0 cannot agree on plan 102: "
            + Disagreement.all().get(0).named();

    @TempDir
    Path folder;

    /** A hundred random plans, one of a part, and one on which rank 2 differs. */
    private static void agree(Communicator communicator) {
        for (int seed = 0; seed < 100; seed++) {
            communicator.agree(Disagreement.random(seed).terms());
        }
        try (Communicator part = communicator.split(communicator.rank() / 2, 0)) {
            part.agree(Map.of("part", String.valueOf(communicator.rank() / 2)));
        }
        communicator.agree(Map.of());
        Disagreement disagreement = Disagreement.all().get(0);
        communicator.agree((communicator.rank() == 2 ? disagreement.other() : disagreement.usual()).terms());
    }

    @Test
    void byThreads() {
        List<Device> devices = IntStream.range(0, WORLD).mapToObj(Device::cuda).toList();
        assertThat(Ranks.run(NcclGroup.create(devices, DEADLINE), NcclAgreementTest::agree))
                .allSatisfy(ending -> assertThat(ending.thrown())
                        .isInstanceOf(CommunicationException.class)
                        .hasMessageStartingWith(OTHER));
    }

    @Test
    void byProcesses() throws Exception {
        RankProcesses ranks = RankProcesses.start(Rank.class, WORLD, folder);
        for (int rank = 0; rank < WORLD; rank++) {
            assertThat(ranks.exitCode(rank, Duration.ofSeconds(120)))
                    .as(ranks.output(rank))
                    .isEqualTo(3);
            assertThat(ranks.output(rank)).contains(OTHER);
        }
    }

    static final class Rank {
        private Rank() {}

        public static void main(String[] args) {
            try (Communicator communicator = NcclGroup.join(Environment.current(), Map.of(), DEADLINE)) {
                agree(communicator);
            } catch (CommunicationException e) {
                System.out.println(e.getMessage());
                System.exit(3);
            }
        }
    }
}
