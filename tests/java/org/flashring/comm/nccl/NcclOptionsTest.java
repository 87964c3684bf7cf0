package org.flashring.comm.nccl;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.util.Map;
import java.util.OptionalInt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What a group asks of NCCL, and what NCCL's environment makes of it. */
class NcclOptionsTest {
    private static final NcclOptions GIVEN =
            NcclOptions.defaults().withChannels(2, 8).withClusterSize(0);

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            textBlock =
                    """
            0 | 8  | 4 | minChannels is 0
            1 | 65 | 4 | maxChannels is 65
            9 | 8  | 4 | minChannels is 9; it must be at most maxChannels, 8
            1 | 8  | 9 | clusterSize is 9
            1 | 8  | -1 | clusterSize is -1
            """)
    void badOnesAreNamed(int least, int most, int cluster, String message) {
        assertThatIllegalArgumentException()
                .isThrownBy(
                        () -> NcclOptions.defaults().withChannels(least, most).withClusterSize(cluster))
                .withMessageStartingWith(message);
    }

    @Test
    void aMostAloneBoundsTheLeast() {
        NcclOptions options = new NcclOptions(OptionalInt.empty(), OptionalInt.of(4), OptionalInt.empty(), false);
        assertThat(options).hasToString("channels: 1 to 4, cluster size: NCCL's choice");
        assertThat(options.minCtas()).isEqualTo(1);
        assertThat(options.maxCtas()).isEqualTo(4);
        assertThat(NcclOptions.defaults().minCtas()).isEqualTo(Integer.MIN_VALUE);
        assertThat(NcclOptions.defaults().maxCtas()).isEqualTo(Integer.MIN_VALUE);
    }

    /** As NCCL 2.28 does: what is too large is cut, what is no number or too small is ignored. */
    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            textBlock =
                    """
            NCCL_MAX_CTAS | 4 | channels: 2 to 4, cluster size: 0
            NCCL_MAX_CTAS | 0x10 | channels: 2 to 16, cluster size: 0
            NCCL_MAX_CTAS | 1 | channels: 1, cluster size: 0
            NCCL_MAX_CTAS | 0 | channels: 2 to 8, cluster size: 0
            NCCL_MAX_CTAS | many | channels: 2 to 8, cluster size: 0
            NCCL_MAX_CTAS | 1000 | channels: 2 to 64, cluster size: 0
            NCCL_MIN_CTAS | 16 | channels: 8, cluster size: 0
            NCCL_CGA_CLUSTER_SIZE | 2 | channels: 2 to 8, cluster size: 2
            NCCL_CGA_CLUSTER_SIZE | 99 | channels: 2 to 8, cluster size: 8
            NCCL_CGA_CLUSTER_SIZE | -1 | channels: 2 to 8, cluster size: 0
            """)
    void theEnvironmentOverrides(String name, String value, String effective) {
        assertThat(GIVEN.effective(Map.of(name, value))).hasToString(effective);
    }

    @Test
    void ranksCompareThem() {
        assertThat(GIVEN.terms())
                .containsExactlyInAnyOrderEntriesOf(
                        Map.of("NCCL channels", "2 to 8", "NCCL cluster size", "0", "NCCL registered memory", "false"));
        assertThat(NcclOptions.defaults().terms()).containsEntry("NCCL channels", "NCCL's choice");
        assertThat(NcclOptions.lean().terms()).containsEntry("NCCL registered memory", "true");
        assertThat(NcclOptions.lean()).hasToString("channels: 8, cluster size: 0, registered memory");
    }

    @Test
    void theDescriptionNamesTheVariablesThatCount() {
        assertThat(NcclGroup.description(22_803, Map.of("NCCL_DEBUG", "INFO")))
                .isEqualTo("release 2.28.3, channels: NCCL's choice, cluster size: NCCL's choice");
        assertThat(NcclGroup.description(22_907, Map.of("NCCL_MAX_NCHANNELS", "4", "NCCL_MAX_CTAS", "8", "HOME", "/")))
                .isEqualTo("release 2.29.7, channels: 1 to 8, cluster size: NCCL's choice;"
                        + " set in the environment: NCCL_MAX_CTAS=8, NCCL_MAX_NCHANNELS=4");
    }
}
