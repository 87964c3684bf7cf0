package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Arrays;
import org.bytedeco.javacpp.FloatPointer;
import org.flashring.DType;
import org.flashring.comm.transport.RankSum;
import org.flashring.device.Device;
import org.flashring.kernel.TensorMath;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RankSumTest {
    private static final int COUNT = 40_000; // beyond one chunk

    /** Sums are taken in rank order, whether memory is read where it is or copied first. */
    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void sumsAreInRankOrder(boolean reaches) {
        float[] big = new float[COUNT];
        float[] small = new float[COUNT];
        float[] negative = new float[COUNT];
        for (int i = 0; i < COUNT; i++) {
            big[i] = 1e8f + i;
            small[i] = 0.1f * i;
            negative[i] = -1e8f;
        }
        FloatPointer[] ranks = {new FloatPointer(big), new FloatPointer(small), new FloatPointer(negative)};
        long[] addresses = Arrays.stream(ranks).mapToLong(FloatPointer::address).toArray();
        try (TensorMath math = new TensorMath(Device.HOST);
                RankSum sums = new RankSum(Device.HOST, math, reaches)) {
            sums.sum(addresses, new long[] {addresses[1], addresses[2]}, COUNT, DType.FLOAT32);
        }
        for (int i = 0; i < COUNT; i++) {
            float expected = big[i] + small[i] + negative[i];
            assertThat(ranks[1].get(i)).isEqualTo(expected);
            assertThat(ranks[2].get(i)).isEqualTo(expected);
        }
        assertThat(ranks[0].get(1)).isEqualTo(big[1]);
    }
}
