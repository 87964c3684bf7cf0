package org.flashring.launch;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class EnvironmentTest {
    private static final Map<String, String> TORCHRUN = Map.of(
            "RANK",
            "5",
            "LOCAL_RANK",
            "1",
            "WORLD_SIZE",
            "8",
            "MASTER_ADDR",
            "node7",
            "MASTER_PORT",
            "12345",
            "TORCHELASTIC_RUN_ID",
            "none");
    private static final Map<String, String> SLURM = Map.of(
            "SLURM_PROCID",
            "3",
            "SLURM_LOCALID",
            "1",
            "SLURM_NTASKS",
            "4",
            "SLURM_JOB_NODELIST",
            "gpu[003-004,009]",
            "SLURM_JOB_ID",
            "4099",
            "SLURM_STEP_ID",
            "0");
    private static final Map<String, String> OPEN_MPI = Map.of(
            "OMPI_COMM_WORLD_RANK",
            "2",
            "OMPI_COMM_WORLD_LOCAL_RANK",
            "0",
            "OMPI_COMM_WORLD_SIZE",
            "3",
            "MASTER_ADDR",
            "10.0.0.1");

    private static Map<String, String> without(Map<String, String> variables, String name) {
        Map<String, String> fewer = new HashMap<>(variables);
        fewer.remove(name);
        return fewer;
    }

    private static Map<String, String> with(Map<String, String> variables, String name, String value) {
        Map<String, String> more = new HashMap<>(variables);
        more.put(name, value);
        return more;
    }

    @Test
    void torchrun() {
        assertThat(Environment.of(TORCHRUN)).isEqualTo(new Environment(5, 1, 8, "node7", 12345, "none"));
        assertThat(Environment.of(without(TORCHRUN, "MASTER_PORT")).masterPort())
                .isEqualTo(29_500);
    }

    @Test
    void slurmFindsTheFirstHostAndAPortOfTheJob() {
        assertThat(Environment.of(SLURM)).isEqualTo(new Environment(3, 1, 4, "gpu003", 29_503, "4099.0"));
        assertThat(Environment.of(with(SLURM, "MASTER_ADDR", "login")).masterAddress())
                .isEqualTo("login");
        assertThat(Environment.of(with(SLURM, "MASTER_PORT", "7")).masterPort()).isEqualTo(7);
    }

    @Test
    void openMpi() {
        assertThat(Environment.of(OPEN_MPI)).isEqualTo(new Environment(2, 0, 3, "10.0.0.1", 29_500, ""));
    }

    @Test
    void torchrunInsideASlurmJobWins() {
        Map<String, String> both = new HashMap<>(SLURM);
        both.putAll(TORCHRUN);
        assertThat(Environment.of(both).rank()).isEqualTo(5);
    }

    @ParameterizedTest
    @CsvSource({
        "node1, node1",
        "'node1,node2', node1",
        "gpu[003-006], gpu003",
        "'gpu[3,5],cpu1', gpu3",
        "'a1,gpu[3-5]', a1",
        "gpu[07-09].cluster, gpu07.cluster"
    })
    void firstHostOfASlurmList(String nodes, String first) {
        assertThat(HostList.first("SLURM_JOB_NODELIST", nodes)).isEqualTo(first);
    }

    @Test
    void onOneHostTheAddressIsTheLoopback() {
        assertThat(Environment.of(with(TORCHRUN, "LOCAL_WORLD_SIZE", "8")).masterAddress())
                .isEqualTo("127.0.0.1");
        assertThat(Environment.of(with(TORCHRUN, "LOCAL_WORLD_SIZE", "4")).masterAddress())
                .isEqualTo("node7");
        assertThat(Environment.of(with(SLURM, "SLURM_JOB_NUM_NODES", "1")).masterAddress())
                .isEqualTo("127.0.0.1");
        assertThat(Environment.of(with(with(SLURM, "SLURM_JOB_NUM_NODES", "1"), "SLURM_STEP_NUM_NODES", "2"))
                        .masterAddress())
                .isEqualTo("gpu003");
        Map<String, String> oneHost = with(without(OPEN_MPI, "MASTER_ADDR"), "OMPI_COMM_WORLD_LOCAL_SIZE", "3");
        assertThat(Environment.of(oneHost).masterAddress()).isEqualTo("127.0.0.1");
    }

    @Test
    void whoSaysWhereToListenIsReachedWhereMasterAddrSays() {
        Environment environment =
                Environment.of(with(with(TORCHRUN, "LOCAL_WORLD_SIZE", "8"), "FLASHRING_BIND_ADDRESS", " 0.0.0.0 "));
        assertThat(environment.masterAddress()).isEqualTo("node7");
        assertThat(environment.bindAddress()).isEqualTo("0.0.0.0");
    }

    @Test
    void aStepOfASlurmJobHasItsOwnHosts() {
        assertThat(Environment.of(with(SLURM, "SLURM_STEP_NODELIST", "rack1-[1-2]-gpu[3-4]"))
                        .masterAddress())
                .isEqualTo("rack1-1-gpu3");
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Environment.of(with(SLURM, "SLURM_STEP_NODELIST", "gpu[")))
                .withMessageContaining("SLURM_STEP_NODELIST is 'gpu['");
    }

    @Test
    void theSecretIsTheVariables() {
        assertThat(Environment.of(with(TORCHRUN, "FLASHRING_SECRET", "s")).secret())
                .isEqualTo(Secret.of("s"));
        assertThat(Environment.of(TORCHRUN).secret()).isEqualTo(Secret.NONE);
    }

    @ParameterizedTest
    @ValueSource(strings = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"})
    void namesWhatTorchrunLacks(String name) {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Environment.of(without(TORCHRUN, name)))
                .withMessageContaining(name + " is not set")
                .withMessageContaining("torchrun");
    }

    @ParameterizedTest
    @ValueSource(strings = {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_JOB_NODELIST"})
    void namesWhatSlurmLacks(String name) {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Environment.of(without(SLURM, name)))
                .withMessageContaining(name + " is not set")
                .withMessageContaining("SLURM");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", "MASTER_ADDR"})
    void namesWhatOpenMpiLacks(String name) {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Environment.of(without(OPEN_MPI, name)))
                .withMessageContaining(name + " is not set")
                .withMessageContaining("Open MPI");
    }

    @Test
    void namesAllLaunchersWhereThereIsNone() {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Environment.of(Map.of("MASTER_ADDR", "x")))
                .withMessageContaining("RANK (torchrun)")
                .withMessageContaining("SLURM_PROCID")
                .withMessageContaining("OMPI_COMM_WORLD_RANK");
    }

    @ParameterizedTest
    @CsvSource({
        "RANK, x, 'be a whole number'",
        "WORLD_SIZE, '', 'is not set'",
        "RANK, 8, 'lie in [0, 7]'",
        "RANK, -1, 'lie in [0, 7]'",
        "WORLD_SIZE, 0, 'at least 1'",
        "LOCAL_RANK, -1, 'at least 0'",
        "MASTER_PORT, 70000, 'lie in [1, 65535]'",
        "MASTER_PORT, http, 'be a whole number'"
    })
    void refusesWhatCannotBe(String name, String value, String rule) {
        assertThatIllegalArgumentException()
                .isThrownBy(() -> Environment.of(with(TORCHRUN, name, value)))
                .withMessageContaining(rule);
    }

    /** What a launcher has set wrongly is no reason to go on alone. */
    @Test
    void tellsWhetherThereIsALauncher() {
        assertThat(Environment.isLaunched(Map.of())).isFalse();
        assertThat(Environment.isLaunched(Map.of("RANK", "x"))).isTrue();
        assertThat(Environment.isLaunched(Map.of("SLURM_NTASKS", "2"))).isTrue();
    }
}
