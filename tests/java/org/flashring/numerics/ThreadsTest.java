package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.flashring.Threads;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The public number of threads. What decides it before it is set takes a process of its own: {@code SurroundingsIT}.
 */
class ThreadsTest {
    @Test
    void whatIsSetIsSaid() {
        int before = Threads.get();
        try {
            for (int threads : new int[] {1, 7, 1024}) {
                Threads.set(threads);
                assertThat(Threads.get()).isEqualTo(threads);
            }
        } finally {
            Threads.set(before);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0, -1, 1025, Integer.MAX_VALUE, Integer.MIN_VALUE})
    void whatCannotBeIsRefusedAndChangesNothing(int threads) {
        int before = Threads.get();
        assertThatThrownBy(() -> Threads.set(threads))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("threads = " + threads + " must be from 1 to 1024");
        assertThat(Threads.get()).isEqualTo(before);
    }
}
