package org.flashring.cli.bench;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.Arrays;
import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What runs on a GPU runs on the host as well. */
class DeviceBenchTest {
    @ParameterizedTest
    @CsvSource({"FLOAT32, 1e-5", "BFLOAT16, 6e-2", "FLOAT16, 8e-3"})
    void onTheHost(DType dtype, double bound) {
        check(dtype, bound, Device.HOST);
    }

    @ParameterizedTest
    @RequiresGpu
    @CsvSource({"FLOAT32, 1e-5", "BFLOAT16, 6e-2", "FLOAT16, 8e-3"})
    void onTheGpu(DType dtype, double bound) {
        check(dtype, bound, Device.cuda(0));
    }

    private static void check(DType dtype, double bound, Device device) {
        BenchCase bench = new BenchCase(AttentionShape.of(2, 4, 2, 24, dtype), 61, true);
        StringWriter text = new StringWriter();
        DeviceBench.Result result = DeviceBench.run(List.of(bench), 3, device, new PrintWriter(text, true));
        assertThat(result.device()).startsWith(device.toString());
        assertThat(result.lines()).extracting(DeviceBench.Line::pass).containsExactly("forward", "backward");
        assertThat(result.lines()).allSatisfy(line -> {
            assertThat(line.largestError()).isPositive().isLessThan(bound);
            assertThat(line.batchMillis()).hasSize(3).contains(line.millis());
            assertThat(line.hostMicros())
                    .isPositive()
                    .isLessThanOrEqualTo(
                            1.001e3 * Arrays.stream(line.batchMillis()).min().orElseThrow());
        });
        assertThat(text.toString()).contains("B2 H4/2 S61 D24").contains("PyTorch is not beside it");
    }

    /** An error is worth what it notices: here those of another mask. */
    @Test
    void aWrongResultIsFarOff() {
        BenchCase bench = new BenchCase(AttentionShape.of(1, 2, 2, 16, DType.FLOAT32), 40, true);
        BenchCase full = new BenchCase(bench.shape(), bench.length(), false);
        try (DeviceContender causal = DeviceContender.drawn(bench, Device.HOST);
                DeviceContender other = DeviceContender.drawn(full, Device.HOST);
                DeviceContender exact = other.exactFirstHead()) {
            for (DeviceContender contender : List.of(causal, exact)) {
                contender.forward();
                contender.backward();
            }
            assertThat(causal.outputError(exact)).isGreaterThan(0.1);
            assertThat(causal.gradientError(exact)).isGreaterThan(0.1);
        }
    }

    @ParameterizedTest
    @CsvSource({"1, true", "1, false", "7, true", "7, false", "40, true", "40, false"})
    void flopsOfAWindowAreThoseOfItsPairs(long window, boolean causal) {
        BenchCase bench = new BenchCase(AttentionShape.of(2, 3, 1, 8, DType.FLOAT32), 41, causal, window);
        long pairs = 0;
        for (long query = 0; query < 41; query++) {
            pairs += Math.min(41, bench.mask().hi(query)) - bench.mask().lo(query);
        }
        assertThat(bench.forwardFlops()).isCloseTo(4.0 * 2 * 3 * 8 * pairs, within(1e-6));
    }

    @Test
    void bytesOfEveryOperandOnce() {
        BenchCase bench = new BenchCase(AttentionShape.of(2, 4, 2, 24, DType.BFLOAT16), 61, true);
        double tokens = 2 * 61;
        double q = tokens * 4 * 24 * 2;
        double k = tokens * 2 * 24 * 2;
        double lse = tokens * 4 * 4;
        assertThat(bench.forwardBytes()).isEqualTo(2 * q + 2 * k + lse);
        assertThat(bench.backwardBytes()).isEqualTo(4 * q + 4 * k + lse);
    }
}
