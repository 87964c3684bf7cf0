package org.flashring.serve;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.bytedeco.javacpp.IntPointer;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.internal.RawPointer;
import org.junit.jupiter.api.Test;

/** What the host counts of two rows, and the table of pages that kernels read. */
class RowsTest {
    private static final AttentionShape SHAPE = AttentionShape.of(2, 2, 1, 8, DType.FLOAT32);
    private static final CachePlan PAGES = CachePlan.paged(SHAPE, 1, 16, 4).withNewTokens(16);

    private static int[] table(Rows rows) {
        int[] entries = new int[2 * 4];
        new IntPointer(new RawPointer().at(rows.pageTable())).get(entries);
        return entries;
    }

    private static void step(Rows rows, long tokens) {
        rows.makeRoom(tokens, 0);
        rows.advance(tokens);
    }

    @Test
    void entriesNameThePagesThatRowsHave() {
        try (Rows rows = new Rows(PAGES, 0, Device.HOST)) {
            assertThat(table(rows)).containsOnly(-1);
            step(rows, 5);
            assertThat(table(rows)).containsExactly(0, 1, -1, -1, 2, 3, -1, -1);
            rows.release(0, 0);
            assertThat(table(rows)).containsExactly(-1, -1, -1, -1, 2, 3, -1, -1);
            rows.reserve(1, 16, 0);
            assertThat(table(rows)).containsExactly(-1, -1, -1, -1, 2, 3, 1, 0);
            assertThat(rows.freePages()).isEqualTo(4);
        }
    }

    @Test
    void entriesBehindTheWindowNameNothing() {
        try (Rows rows = new Rows(PAGES.withWindow(4), 0, Device.HOST)) {
            step(rows, 10); // the next query sees keys from 7 on
            assertThat(table(rows)).containsExactly(-1, 1, 2, -1, -1, 4, 5, -1);
            step(rows, 1);
            assertThat(table(rows)).containsExactly(-1, -1, 2, -1, -1, -1, 5, -1);
            assertThat(rows.freePages()).isEqualTo(6);
        }
    }

    @Test
    void replaysCountWhatTheDeviceGot() {
        try (Rows rows = new Rows(PAGES, 0, Device.HOST)) {
            assertThatThrownBy(rows::replayed)
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("no step has been captured");
            step(rows, 1);
            rows.captured(2);
            assertThat(rows.length(0)).isEqualTo(1);
            rows.newLengths(new int[] {0, 1}, 0); // which the graph does not heed
            rows.replayed();
            assertThat(rows.length(0)).isEqualTo(3);
            rows.reserve(1, 5, 0);
            assertThatThrownBy(rows::replayed)
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("row 0 got 1 of 2 new tokens in a replay, and holds 4 keys of 16");
            assertThat(rows.length(1)).isEqualTo(5);
            rows.release(0, 0);
            assertThatThrownBy(rows::replayed).hasMessageContaining("row 0 got 0 of 2");
            assertThat(rows.length(0)).isZero();
            assertThat(rows.length(1)).isEqualTo(7);
        }
    }

    @Test
    void replaysHeedNewLengthsIfThereWereSome() {
        try (Rows rows = new Rows(CachePlan.contiguous(SHAPE, 1, 5).withNewTokens(3), 0, Device.HOST)) {
            rows.newLengths(new int[] {1, 0}, 0);
            rows.captured(2);
            rows.newLengths(new int[] {2, 1}, 0);
            rows.replayed();
            rows.newLengths(new int[0], 0); // the device still has the last ones
            step(rows, 1);
            rows.replayed();
            assertThat(rows.length(0)).isEqualTo(5);
            assertThat(rows.length(1)).isEqualTo(3);
            assertThatThrownBy(rows::replayed).hasMessageContaining("row 0 got 0 of 2 new tokens in a replay");
            rows.newLengths(new int[] {0, 3}, 0);
            assertThatThrownBy(rows::replayed).hasMessageContaining("row 1 got 1 of 3"); // it takes two, at 4 keys of 5
        }
    }
}
