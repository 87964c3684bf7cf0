package org.flashring.cli.support;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.util.Map;
import org.junit.jupiter.api.Test;

class LaunchedTest {
    private static final Map<String, String> THIRD =
            Map.of("RANK", "2", "LOCAL_RANK", "2", "WORLD_SIZE", "4", "MASTER_ADDR", "127.0.0.1", "SLURM_PROCID", "0");

    @Test
    void processesAreThoseOfTorchrunsVariables() {
        assertThat(Launched.of(Map.of())).isNull();
        assertThat(Launched.of(Map.of("SLURM_PROCID", "0", "SLURM_NTASKS", "2")))
                .as("a shell inside a job")
                .isNull();
        Launched third = Launched.of(THIRD);
        assertThat(third.worldSize()).isEqualTo(4);
        assertThat(third.isFirst()).isFalse();
    }

    @Test
    void anotherNumberOfRanksIsRefused() {
        Launched.of(THIRD).require("--ranks", 4, 4);
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Launched.of(THIRD).require("--ranks", 3, 3))
                .withMessage("--ranks is 3; it must be of 4 ranks, the processes that were started");
    }
}
