package org.flashring.comm.peer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.LongStream;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.comm.transport.Transport;
import org.flashring.comm.transport.TransportCommunicator;
import org.flashring.launch.Environment;
import org.flashring.support.RankProcesses;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What is shown of memory, and that of what is freed every group hears once: CUDA is a table of allocations. */
@Timeout(60)
class ExportsTest {
    private static final long BYTES = 0x100;

    private final Map<Long, Long> allocations = new TreeMap<>(); // number by base
    private final List<Long> exported = new ArrayList<>();
    private final Exports exports = new Exports(new Exports.Source() {
        @Override
        public long base(long address) {
            return allocations.keySet().stream()
                    .filter(base -> base <= address && address < base + BYTES)
                    .findFirst()
                    .orElse(0L);
        }

        @Override
        public long size(long address) {
            return BYTES;
        }

        @Override
        public long number(long address) {
            return allocations.get(base(address));
        }

        @Override
        public boolean export(long base, long handle) {
            exported.add(base);
            return base != 0xbad00;
        }
    });
    private final ByteBuffer letters = Exports.direct(2 * Letter.LENGTH);

    private final List<Transport> controls = new ArrayList<>();

    @AfterEach
    void leave() {
        controls.forEach(Transport::close);
    }

    private Freed group() {
        Environment alone = new Environment(0, 0, 1, "127.0.0.1", RankProcesses.freePort(), "");
        Transport control =
                ((TransportCommunicator) ProcessGroup.join(alone, Map.of(), Duration.ofSeconds(20))).transport();
        controls.add(control);
        return new Freed(control);
    }

    private static List<Long> told(Freed group) {
        group.exchange("barrier");
        return LongStream.range(0, Freed.told(group.cards(), 0))
                .mapToObj(i -> Freed.number(group.cards(), 0, (int) i))
                .toList();
    }

    @Test
    void aLetterSaysWhereAMessageLies() {
        allocations.put(0x1000L, 7L);
        exports.describe(0x1010, 16, letters, Letter.LENGTH);
        exports.describe(0x1020, 16, letters, 0);
        assertThat(exported).containsExactly(0x1000L); // handles are kept
        assertThat(LongStream.of(Letter.BYTES, Letter.OFFSET, Letter.NUMBER, Letter.BASE, Letter.SIZE)
                        .map(field -> letters.getLong(Letter.LENGTH + (int) field)))
                .containsExactly(16L, 0x10L, 7L, 0x1000L, BYTES);
    }

    @Test
    void memoryThatOthersCannotOpenIsRefused() {
        allocations.put(0xbad00L, 1L);
        assertThatThrownBy(() -> exports.describe(0xbad00, 1, letters, 0))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("0xbad00");
        assertThatThrownBy(() -> exports.describe(0x5000, 1, letters, 0))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("lie on the device");
    }

    @Test
    void whatIsFreedIsToldToEveryGroupOnce() {
        Freed one = group();
        Freed other = group();
        exports.add(one);
        exports.add(other);
        for (long number = 1; number <= 40; number++) {
            allocations.put(number * 0x1000, number);
            exports.describe(number * 0x1000, 1, letters, 0);
        }
        exports.findFreed();
        assertThat(told(one)).isEmpty();
        allocations.remove(0x3000L);
        allocations.put(0x5000L, 41L); // in the place of the fifth
        exports.findFreed();
        exports.findFreed();
        assertThat(told(one)).containsExactly(3L, 5L);
        assertThat(told(one)).isEmpty();
        exports.describe(0x28000, 1, letters, 0); // the handle of one behind those is still its own
        assertThat(exported).hasSize(40);
        exports.remove(one);
        allocations.clear();
        allocations.put(0x1000L, 42L);
        exports.describe(0x1000, 1, letters, 0); // a new one makes it look
        assertThat(told(one)).isEmpty();
        List<Long> heard = new ArrayList<>(told(other));
        while (other.isMore()) {
            heard.addAll(told(other));
        }
        assertThat(heard)
                .containsExactlyElementsOf(LongStream.concat(
                                LongStream.of(3, 5),
                                LongStream.rangeClosed(1, 40).filter(i -> i != 3 && i != 5))
                        .boxed()
                        .toList());
    }
}
