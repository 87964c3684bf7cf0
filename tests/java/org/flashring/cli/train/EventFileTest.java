package org.flashring.cli.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.entry;
import static org.assertj.core.api.Assertions.within;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Event files are what TensorBoard reads, by a reader after its format's description. */
class EventFileTest {
    @TempDir
    private Path folder;

    /** An event: its step and numbers, or the version of the file. */
    record Event(double wallTime, long step, String version, Map<String, Float> scalars) {}

    /** Returns the events of the one file of a folder. */
    static List<Event> read(Path folder) throws IOException {
        List<Path> files;
        try (Stream<Path> list = Files.list(folder)) {
            files = list.toList();
        }
        assertThat(files).hasSize(1);
        assertThat(files.get(0).getFileName().toString()).startsWith("events.out.tfevents.");
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(files.get(0))).order(ByteOrder.LITTLE_ENDIAN);
        List<Event> events = new ArrayList<>();
        while (file.hasRemaining()) {
            byte[] length = new byte[8];
            file.get(length);
            assertThat(file.getInt()).isEqualTo(masked(length));
            byte[] data = new byte
                    [(int) ByteBuffer.wrap(length)
                            .order(ByteOrder.LITTLE_ENDIAN)
                            .getLong()];
            file.get(data);
            assertThat(file.getInt()).isEqualTo(masked(data));
            events.add(event(ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN)));
        }
        return events;
    }

    /** CRC-32C, bit by bit, and the mask that TFRecord puts on it. */
    private static int masked(byte[] bytes) {
        int crc = -1;
        for (byte each : bytes) {
            crc ^= each & 0xff;
            for (int bit = 0; bit < 8; bit++) {
                crc = crc >>> 1 ^ ((crc & 1) == 0 ? 0 : 0x82f63b78);
            }
        }
        crc = ~crc;
        return (crc >>> 15 | crc << 17) + 0xa282ead8;
    }

    private static Event event(ByteBuffer in) {
        double wallTime = 0;
        long step = 0;
        String version = null;
        Map<String, Float> scalars = new LinkedHashMap<>();
        while (in.hasRemaining()) {
            switch ((int) varint(in)) {
                case 1 << 3 | 1 -> wallTime = in.getDouble();
                case 2 << 3 -> step = varint(in);
                case 3 << 3 | 2 ->
                    version = StandardCharsets.UTF_8.decode(part(in)).toString();
                case 5 << 3 | 2 -> scalars(part(in), scalars);
                default -> throw new AssertionError("a field that is none of Event's");
            }
        }
        return new Event(wallTime, step, version, scalars);
    }

    private static void scalars(ByteBuffer summary, Map<String, Float> to) {
        while (summary.hasRemaining()) {
            assertThat(varint(summary)).isEqualTo(1 << 3 | 2);
            ByteBuffer value = part(summary);
            assertThat(varint(value)).isEqualTo(1 << 3 | 2);
            String tag = StandardCharsets.UTF_8.decode(part(value)).toString();
            assertThat(varint(value)).isEqualTo(2 << 3 | 5);
            to.put(tag, value.getFloat());
            assertThat(value.hasRemaining()).isFalse();
        }
    }

    private static ByteBuffer part(ByteBuffer in) {
        int length = (int) varint(in);
        ByteBuffer part = in.slice(in.position(), length).order(ByteOrder.LITTLE_ENDIAN);
        in.position(in.position() + length);
        return part;
    }

    private static long varint(ByteBuffer in) {
        long value = 0;
        for (int shift = 0; ; shift += 7) {
            byte next = in.get();
            value |= (next & 0x7fL) << shift;
            if (next >= 0) {
                return value;
            }
        }
    }

    @Test
    void stepsAreThereAsSoonAsTheyAreWritten() throws IOException {
        Path deep = folder.resolve("runs/one");
        Map<String, Double> values = new LinkedHashMap<>();
        values.put("loss", 5.25);
        values.put("seconds/" + "x".repeat(200), Double.POSITIVE_INFINITY); // a length of two bytes
        try (EventFile file = new EventFile(deep)) {
            file.scalars(1, values);
            file.scalars(1L << 40, Map.of("mfu", -0.5));
            List<Event> events = read(deep);
            assertThat(events).hasSize(3);
            assertThat(events.get(0).version()).isEqualTo("brain.Event:2");
            assertThat(events.get(1).step()).isEqualTo(1);
            assertThat(events.get(1).scalars())
                    .containsExactly(
                            entry("loss", 5.25f), entry("seconds/" + "x".repeat(200), Float.POSITIVE_INFINITY));
            assertThat(events.get(2).step()).isEqualTo(1L << 40);
            assertThat(events.get(2).scalars()).containsExactly(entry("mfu", -0.5f));
            assertThat(events.get(2).wallTime()).isCloseTo(System.currentTimeMillis() / 1e3, within(600.0));
        }
        new EventFile(deep).close();
        try (Stream<Path> files = Files.list(deep)) {
            assertThat(files).hasSize(2); // never one over another
        }
    }

    @Test
    void aFileInTheWayIsSaid() throws IOException {
        Path file = Files.writeString(folder.resolve("file"), "");
        assertThatThrownBy(() -> new EventFile(file)).isInstanceOf(IOException.class);
    }
}
