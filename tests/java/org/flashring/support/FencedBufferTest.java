package org.flashring.support;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.BitSet;
import org.flashring.DType;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The fences and element conversions that other tests rely on can themselves tell right from wrong. */
class FencedBufferTest {

    @ParameterizedTest
    @EnumSource
    void startsAsNanAndReportsEveryForeignWrite(DType dtype) {
        BitSet writable = new BitSet();
        writable.set(2, 5);
        for (int element = -67; element < 8 + 67; element++) {
            FencedBuffer buffer = new FencedBuffer(dtype, 8);
            assertThat(buffer.get(element)).isNaN();
            buffer.freeze();
            buffer.put(3, 1);
            buffer.requireUntouched("buffer", writable);
            buffer.put(element, 1);
            if (!writable.get(Math.max(0, element)) || element < 0) {
                assertThatThrownBy(() -> buffer.requireUntouched("buffer", writable))
                        .isInstanceOf(AssertionError.class)
                        .hasMessageContaining("element");
            } else {
                buffer.requireUntouched("buffer", writable);
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void elementsAreRoundedToNearest(DType dtype) {
        FencedBuffer buffer = new FencedBuffer(dtype, 1);
        double unit =
                switch (dtype) {
                    case FLOAT64 -> 0x1p-52;
                    case FLOAT32 -> 0x1p-23;
                    case BFLOAT16 -> 0x1p-7;
                    case FLOAT16 -> 0x1p-10;
                };
        for (double exact : new double[] {0, 1, -1, 1 + unit, -3.5, 0x1p-14, Double.NEGATIVE_INFINITY, Double.NaN}) {
            buffer.put(0, exact);
            assertThat(buffer.get(0)).isEqualTo(Double.valueOf(exact)); // as Double.equals does: NaN is NaN
        }
        if (dtype != DType.FLOAT64) {
            buffer.put(0, 1 + 0.5 * unit);
            assertThat(buffer.get(0)).as("ties to even").isEqualTo(1);
            buffer.put(0, 1 + 1.5 * unit);
            assertThat(buffer.get(0)).as("ties to even").isEqualTo(1 + 2 * unit);
            buffer.put(0, -1 - 0.51 * unit);
            assertThat(buffer.get(0)).isEqualTo(-1 - unit);
        }
    }
}
