package org.flashring.comm.nccl;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.flashring.comm.ContractRank;
import org.flashring.launch.Environment;
import org.flashring.support.RankProcesses;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The contract over NCCL between processes, as NCCL likes and with memory that it knows. */
@RequiresGpu(value = 2, nccl = true)
@Timeout(180)
class NcclProcessContractTest {
    @TempDir
    Path folder;

    @Test
    void theContractIsKept() throws Exception {
        RankProcesses ranks = RankProcesses.start(Rank.class, 2, folder);
        for (int rank = 0; rank < 2; rank++) {
            assertThat(ranks.exitCode(rank, Duration.ofSeconds(150)))
                    .as(ranks.output(rank))
                    .isZero();
            assertThat(ranks.output(rank)).contains("kept twice");
        }
    }

    static final class Rank {
        private Rank() {}

        public static void main(String[] args) {
            for (NcclOptions options : List.of(NcclOptions.defaults(), NcclOptions.lean())) {
                ContractRank.run(deadline -> NcclGroup.join(Environment.current(), Map.of(), deadline, options));
            }
            System.out.println("kept twice");
        }
    }
}
