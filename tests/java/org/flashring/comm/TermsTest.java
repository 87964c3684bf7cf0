package org.flashring.comm;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Arrays;
import java.util.HashSet;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.LongStream;
import org.flashring.internal.Terms;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Lists in few words: a difference is never lost, and is said where it is. */
class TermsTest {
    private static String difference(long[] first, long[] other) {
        return Terms.difference(Map.of("list", Terms.list(first)), 3, Map.of("list", Terms.list(other)));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 17, 128, 129, 160, 161, 500})
    void everyNumberCounts(int length) {
        long[] first = LongStream.range(0, length).map(i -> 3 * i).toArray();
        assertThat(difference(first, first.clone())).isNull();
        Set<String> seen = new HashSet<>();
        for (int i = 0; i < length; i++) {
            long[] other = first.clone();
            other[i]++;
            assertThat(seen.add(Terms.list(other))).isTrue();
            String said = difference(first, other);
            if (length <= 128) {
                assertThat(said).isEqualTo("list[" + i + "] is " + (3 * i + 1) + " on rank 3, " + 3 * i + " on rank 0");
            } else {
                int part = (length + 15) / 16;
                int from = i / part * part;
                int last = Math.min(length, from + part) - 1;
                assertThat(said)
                        .startsWith("list[" + from + (last == from ? "" : ".." + last) + "] is ")
                        .endsWith(" on rank 0");
            }
        }
    }

    @Test
    void anotherLengthIsSaid() {
        assertThat(difference(new long[] {0, 5}, new long[] {0, 5, 5}))
                .isEqualTo("list.length is 3 on rank 3, 2 on rank 0");
        assertThat(difference(new long[0], new long[] {7})).isEqualTo("list.length is 1 on rank 3, 0 on rank 0");
        assertThat(difference(new long[0], new long[0])).isNull();
    }

    /** Changes of two neighbours that many sums of multiples would not show. */
    @Test
    void changesDoNotCancel() {
        long[] first = new Random(1).longs(1000, 0, 1 << 20).toArray();
        for (long factor : new long[] {31, 33, 37, 131, 257, 65_599, 0x9E3779B97F4A7C15L}) {
            long[] other = first.clone();
            other[500]++;
            other[501] -= factor;
            assertThat(difference(first, other)).startsWith("list[441..");
        }
        long[] swapped = first.clone();
        swapped[500] = first[501];
        swapped[501] = first[500];
        assertThat(difference(first, swapped)).startsWith("list[441..").isNotNull();
        assertThat(Arrays.equals(first, swapped)).isFalse();
    }

    @Test
    void aMillionNumbersTakeLittleRoom() {
        assertThat(Terms.list(LongStream.range(0, 1_000_000).toArray()).length())
                .isLessThan(1000);
    }
}
