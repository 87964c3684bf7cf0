package org.flashring.robustness;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Locale;
import org.flashring.DType;
import org.flashring.internal.Native;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The element types of Java and those of the native library's table are the same, number by number. */
class DTypeTableTest {
    @Test
    void bothSidesHaveAsMany() {
        assertThat(Native.dtypeCount()).isEqualTo(DType.values().length);
        assertThat(Native.dtypeName(Native.dtypeCount())).isNull();
        assertThat(Native.dtypeName(-1)).isNull();
    }

    @ParameterizedTest
    @EnumSource
    void bothSidesSayTheSame(DType dtype) {
        assertThat(Native.dtypeName(dtype.code())).isEqualTo(dtype.name().toLowerCase(Locale.ROOT));
        assertThat(Native.dtypeBytes(dtype.code())).isEqualTo(dtype.bytes());
        assertThat(Native.dtypeAccumulator(dtype.code()))
                .isEqualTo(dtype.accumulator().code());
    }
}
