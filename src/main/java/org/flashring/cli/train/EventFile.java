package org.flashring.cli.train;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Locale;
import java.util.Map;
import java.util.zip.CRC32C;

/**
 * Numbers by step in the format of TensorBoard's event files, each step in the file once it is written: records of
 * TFRecord's framing, which hold the message {@code Event} of tensorflow/core/util/event.proto.
 */
final class EventFile implements AutoCloseable {
    private static final int WALL_TIME = 1; // of Event
    private static final int STEP = 2;
    private static final int FILE_VERSION = 3;
    private static final int SUMMARY = 5;
    private static final int VALUE = 1; // of Summary
    private static final int TAG = 1; // of Summary.Value
    private static final int SIMPLE_VALUE = 2;
    private static final int VARINT = 0; // wire types
    private static final int FIXED64 = 1;
    private static final int BYTES = 2;
    private static final int FIXED32 = 5;

    private final OutputStream out;

    /**
     * Begins a file in a folder, which is made if it is not there.
     *
     * @throws IOException if that cannot be
     */
    EventFile(Path folder) throws IOException {
        Files.createDirectories(folder);
        this.out = create(folder);
        Message version = event(0);
        version.bytes(FILE_VERSION, "brain.Event:2".getBytes(StandardCharsets.UTF_8));
        write(version);
    }

    /** TensorBoard knows files by their names' middle and reads them in the order of names. */
    private static OutputStream create(Path folder) throws IOException {
        long seconds = System.currentTimeMillis() / 1000;
        for (int number = 0; ; number++) {
            String name = String.format(
                    Locale.ROOT,
                    "events.out.tfevents.%010d.flashring.%d.%d",
                    seconds,
                    ProcessHandle.current().pid(),
                    number);
            try {
                return Files.newOutputStream(
                        folder.resolve(name), StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
            } catch (FileAlreadyExistsException e) {
                // of a run of this process in the same second
            }
        }
    }

    private static Message event(long step) {
        Message event = new Message();
        event.fixed64(WALL_TIME, Double.doubleToRawLongBits(System.currentTimeMillis() / 1e3));
        event.varint(STEP, step);
        return event;
    }

    /** Writes the numbers of a step by name; those that are not finite, too. */
    void scalars(long step, Map<String, Double> values) throws IOException {
        Message summary = new Message();
        values.forEach((tag, value) -> {
            Message one = new Message();
            one.bytes(TAG, tag.getBytes(StandardCharsets.UTF_8));
            one.fixed32(SIMPLE_VALUE, Float.floatToRawIntBits(value.floatValue()));
            summary.bytes(VALUE, one.toByteArray());
        });
        Message event = event(step);
        event.bytes(SUMMARY, summary.toByteArray());
        write(event);
    }

    private void write(Message event) throws IOException {
        byte[] data = event.toByteArray();
        ByteBuffer record =
                ByteBuffer.allocate(data.length + 16).order(ByteOrder.LITTLE_ENDIAN); // a length, two checksums
        record.putLong(data.length);
        record.putInt(masked(record.array(), 0, Long.BYTES));
        record.put(data);
        record.putInt(masked(data, 0, data.length));
        out.write(record.array()); // in one piece: a reader of the growing file waits for the rest of a record
    }

    private static int masked(byte[] bytes, int from, int count) {
        CRC32C crc = new CRC32C();
        crc.update(bytes, from, count);
        return Integer.rotateRight((int) crc.getValue(), 15) + 0xa282ead8;
    }

    @Override
    public void close() throws IOException {
        out.close();
    }

    /** Fields of a protocol buffer, written by hand. */
    private static final class Message extends ByteArrayOutputStream {
        private void key(int field, int wireType) {
            number((long) field << 3 | wireType);
        }

        private void number(long value) {
            long left = value;
            for (; (left & ~0x7fL) != 0; left >>>= 7) {
                write((int) (left & 0x7f | 0x80));
            }
            write((int) left);
        }

        void varint(int field, long value) {
            key(field, VARINT);
            number(value);
        }

        void bytes(int field, byte[] value) {
            key(field, BYTES);
            number(value.length);
            writeBytes(value);
        }

        void fixed32(int field, int value) {
            key(field, FIXED32);
            fixed(value, Integer.BYTES);
        }

        void fixed64(int field, long value) {
            key(field, FIXED64);
            fixed(value, Long.BYTES);
        }

        private void fixed(long value, int bytes) {
            for (int i = 0; i < bytes; i++) {
                write((int) (value >>> 8 * i));
            }
        }
    }
}
