package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.flashring.Layout;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.StopRequest;
import org.flashring.comm.Mesh;
import org.flashring.plan.Ring;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.AutoClose;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

/** Whole runs by the dense engine. */
class DenseTrainingTest {
    private static final int STEPS = 3;

    @TempDir
    private Path folder;

    @AutoClose
    private final StopRequest stop = new StopRequest(() -> {}, () -> {});

    /** Threads play the processes: a communicator of theirs is all that tells them from threads. */
    @Test
    void processesLearnWhatThreadsLearnToTheBit() throws IOException {
        Corpus corpus = Corpus.read(
                List.of(Files.writeString(folder.resolve("text"), "A ring of ranks passes its keys. ".repeat(9))));
        Settings settings = new Settings(
                new Model(1, 2, 1, 16),
                Mesh.of("dp=2,cp=2"),
                STEPS,
                53,
                3,
                1e-2,
                Layout.Policy.ZIGZAG,
                0,
                5,
                new Ring());
        String port = String.valueOf(RankProcesses.freePort());
        List<CompletableFuture<List<Double>>> processes = IntStream.range(0, 4)
                .mapToObj(rank -> Launched.of(Map.of(
                        "RANK",
                        String.valueOf(rank),
                        "LOCAL_RANK",
                        String.valueOf(rank),
                        "WORLD_SIZE",
                        "4",
                        "MASTER_ADDR",
                        "127.0.0.1",
                        "MASTER_PORT",
                        port)))
                .map(launched -> CompletableFuture.supplyAsync(
                        () -> losses(settings, corpus, launched), command -> new Thread(command).start()))
                .toList();
        assertThat(processes.get(0).join()).hasSize(STEPS).isEqualTo(losses(settings, corpus, null));
        assertThat(processes.subList(1, 4))
                .allSatisfy(process -> assertThat(process.join()).isEmpty());
    }

    private List<Double> losses(Settings settings, Corpus corpus, Launched launched) {
        try (StepReport report = new StepReport(settings, new PrintWriter(Writer.nullWriter()))) {
            DenseDevices host = new DenseDevices();
            new CommandLine(host).setCaseInsensitiveEnumValuesAllowed(true).parseArgs();
            DenseTraining training =
                    new DenseTraining(settings, new DenseOptions(), host, corpus, folder, launched, report);
            report.begin();
            training.run(stop);
            return training.outcome() == null
                    ? List.<Double>of()
                    : training.outcome().steps().stream()
                            .map(Training.Step::loss)
                            .toList();
        }
    }
}
