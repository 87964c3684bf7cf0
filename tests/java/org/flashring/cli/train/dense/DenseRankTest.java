package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Communicator;
import org.flashring.comm.Mesh;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.launch.Environment;
import org.flashring.plan.Ring;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.RepeatedTest;

/** What becomes of the others when a rank cannot be made. */
class DenseRankTest {
    private static final long BEYOND_ALL_MEMORY = 1L << 44;

    private static DenseSettings settings(long length) {
        DenseModel model = DenseModel.of(1, 2, 1, 16, 32, 16);
        return DenseSettings.of(model, DType.FLOAT32, Mesh.of("cp=2"), 1, Layout.Policy.ZIGZAG, length, new Ring());
    }

    /** Returns what a rank throws that is to step. Threads play the processes. */
    private static Throwable failure(int rank, String port, DenseSettings settings) {
        Environment environment = Environment.of(Map.of(
                "RANK",
                String.valueOf(rank),
                "LOCAL_RANK",
                String.valueOf(rank),
                "WORLD_SIZE",
                "2",
                "MASTER_ADDR",
                "127.0.0.1",
                "MASTER_PORT",
                port));
        try (Communicator world = ProcessGroup.join(environment, Map.of(), Duration.ofSeconds(60));
                DenseRank made = new DenseRank(settings, AdamW.of(1e-3, 1), world)) {
            made.initialize(1);
            made.step(new long[1][64]);
            return null;
        } catch (RuntimeException | Error e) {
            return e;
        }
    }

    @RepeatedTest(5) // the others could see that it leaves before they see why
    void theOthersLearnWhyARankCannotBeMade() {
        String port = String.valueOf(RankProcesses.freePort());
        CompletableFuture<Throwable> other = new CompletableFuture<>();
        new Thread(() -> other.complete(failure(1, port, settings(BEYOND_ALL_MEMORY)))).start();
        assertThat(failure(0, port, settings(64)))
                .hasMessageStartingWith("rank 1 failed: java.lang.OutOfMemoryError: no host memory for ");
        assertThat(other.join()).isInstanceOf(OutOfMemoryError.class);
    }
}
