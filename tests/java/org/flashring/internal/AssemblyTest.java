package org.flashring.internal;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Map;
import org.junit.jupiter.api.Test;

class AssemblyTest {
    @Test
    void ofManyOpenMeetingsTheOneThatHasWaitedLongestIsNamed() {
        Assembly assembly = new Assembly();
        assertThat(assembly.overdue(-1)).isNull();
        assembly.bring(new Assembly.Guest("first", 7, 1, 3, Map.of()), verdict -> {});
        for (int later = 0; later < 100; later++) {
            assembly.bring(new Assembly.Guest("group " + later, later, 0, 2, Map.of()), verdict -> {});
        }
        assertThat(assembly.overdue(-1))
                .isEqualTo("rank 1 waited 0 ms, the deadline, in agree on plan 7 for rank 0, 2");
    }
}
