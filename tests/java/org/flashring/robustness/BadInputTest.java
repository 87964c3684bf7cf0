package org.flashring.robustness;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import java.util.stream.Stream;
import org.flashring.internal.Native;
import org.flashring.support.Capped;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What cannot be right is refused in Java, by name, value and rule, before any kernel is entered. */
@Capped
@Timeout(30)
class BadInputTest {
    static List<BadCase> cases() {
        return Stream.of(
                        BadShapes.cases(),
                        BadMemory.cases(),
                        BadOperands.cases(),
                        BadScores.cases(),
                        BadCommunication.cases(),
                        BadSync.cases())
                .flatMap(List::stream)
                .toList();
    }

    @Test
    void thereAreAtLeast150CasesEachWithItsOwnName() {
        assertThat(cases()).hasSizeGreaterThanOrEqualTo(150);
        assertThat(cases()).extracting(BadCase::name).doesNotHaveDuplicates();
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("cases")
    void isRefusedByNameValueAndRule(BadCase bad) {
        long before = Native.callCount();
        assertThatThrownBy(bad.call()).isExactlyInstanceOf(bad.type()).message().contains(bad.mentions());
        assertThat(Native.callCount()).as("kernel entries").isEqualTo(before);
    }
}
