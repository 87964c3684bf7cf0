package org.flashring.comm.peer;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

/** Which allocations of other processes are open, when: CUDA is a list of what was asked of it. */
class ImportsTest {
    private final List<String> asked = new ArrayList<>();
    private final Imports imports = new Imports(new Imports.Opener() {
        private long next;

        @Override
        public long open(long handle) {
            asked.add("open");
            next += 0x10000;
            return next;
        }

        @Override
        public void close(long memory) {
            asked.add("close " + Long.toHexString(memory));
        }
    });

    private Runnable untilIdle = () -> asked.add("idle");

    private long address(int process, long number, long base, long size, long offset) {
        ByteBuffer letter = Exports.direct(Letter.LENGTH + 8);
        letter.putLong(8 + Letter.BYTES, 1)
                .putLong(8 + Letter.NUMBER, number)
                .putLong(8 + Letter.BASE, base)
                .putLong(8 + Letter.SIZE, size)
                .putLong(8 + Letter.OFFSET, offset);
        return imports.address(process, letter, 8, untilIdle);
    }

    @Test
    void anAllocationIsOpenedOnceForEachProcess() {
        assertThat(address(1, 7, 0x1000, 0x100, 16)).isEqualTo(0x10010);
        assertThat(address(1, 7, 0x1000, 0x100, 32)).isEqualTo(0x10020);
        assertThat(address(2, 7, 0x1000, 0x100, 0)).isEqualTo(0x20000); // another process's seventh
        assertThat(asked).containsExactly("open", "open");
    }

    @Test
    void whatHasAnotherInItsPlaceIsClosedFirst() {
        address(1, 7, 0x1000, 0x100, 0);
        address(1, 8, 0x1100, 0x100, 0); // behind it
        address(2, 9, 0x1000, 0x100, 0); // in another process
        assertThat(asked).containsExactly("open", "open", "open");
        assertThat(address(1, 10, 0x10ff, 2, 0)).isEqualTo(0x40000); // an end of the first, a beginning of the second
        assertThat(asked.subList(3, 7)).containsExactly("idle", "close 10000", "close 20000", "open");
        assertThat(imports.count()).isEqualTo(2);
        assertThat(address(2, 9, 0x1000, 0x100, 1)).isEqualTo(0x30001);
    }

    /** The group fails while something here waits: nothing is closed, which would wait for the device. */
    @Test
    void nothingIsClosedUnlessAllIsIdle() {
        address(1, 7, 0x1000, 0x100, 0);
        untilIdle = () -> {
            throw new IllegalStateException("the group has failed");
        };
        assertThat(address(2, 8, 0x1000, 0x100, 0)).isEqualTo(0x20000); // in nobody's place
        assertThatThrownBy(() -> address(1, 8, 0x1000, 0x100, 0)).hasMessage("the group has failed");
        assertThat(asked).containsExactly("open", "open");
        assertThat(address(1, 7, 0x1000, 0x100, 1)).isEqualTo(0x10001);
    }

    /** Whoever waits does not keep others, such as who ends the wait, from what is open. */
    @Test
    void othersGoOnWhileOneWaits() {
        address(1, 7, 0x1000, 0x100, 0);
        long[] others = new long[1];
        untilIdle = () -> others[0] = CompletableFuture.supplyAsync(() -> address(1, 7, 0x1000, 0x100, 1))
                .orTimeout(10, SECONDS)
                .join();
        assertThat(address(1, 8, 0x1000, 0x100, 0)).isEqualTo(0x20000);
        assertThat(others[0]).isEqualTo(0x10001);
    }

    private static ByteBuffer freed(long... numbers) {
        ByteBuffer told = Exports.direct(8 + Freed.LENGTH).putLong(8, numbers.length);
        for (int i = 0; i < numbers.length; i++) {
            told.putLong(16 + i * Long.BYTES, numbers[i]);
        }
        return told;
    }

    @Test
    void whatItsProcessHasFreedIsClosedWhenAskedFor() {
        address(1, 7, 0x1000, 0x100, 0);
        address(1, 8, 0x2000, 0x100, 0);
        address(2, 7, 0x1000, 0x100, 0);
        assertThat(imports.note(1, freed(), 8)).isFalse();
        assertThat(imports.note(1, freed(9, 10), 8)).isFalse(); // never opened here
        assertThat(imports.note(1, freed(9, 7), 8)).isTrue();
        assertThat(asked).containsExactly("open", "open", "open");
        imports.closeFreed();
        imports.closeFreed();
        assertThat(asked.subList(3, asked.size())).containsExactly("close 10000");
        assertThat(imports.note(1, freed(7), 8)).isFalse(); // told by another group
        assertThat(address(1, 8, 0x2000, 0x100, 1)).isEqualTo(0x20001);
        assertThat(address(2, 7, 0x1000, 0x100, 1)).isEqualTo(0x30001);
    }

    @Test
    void aMessageOfNothingIsNowhere() {
        assertThat(imports.address(1, Exports.direct(Letter.LENGTH), 0, untilIdle))
                .isZero();
        assertThat(asked).isEmpty();
    }

    @Test
    void closeClosesAll() {
        address(1, 1, 0x1000, 1, 0);
        address(2, 1, 0x1000, 1, 0);
        imports.close();
        imports.close();
        assertThat(asked).containsExactly("open", "open", "close 10000", "close 20000");
    }
}
