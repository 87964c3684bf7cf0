package org.flashring.cli.train.dense;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.flashring.DType;

/**
 * The header of a file of Hugging Face's safetensors format: the length of a JSON object, little-endian, that object,
 * and then the tensors' bytes.
 */
final class Safetensors {
    private static final long LONGEST_HEADER = 100_000_000; // as the format's own reader has it
    private static final Map<DType, String> NAMES = Map.of(
            DType.FLOAT64, "F64",
            DType.FLOAT32, "F32",
            DType.BFLOAT16, "BF16",
            DType.FLOAT16, "F16");

    /**
     * A tensor of a file.
     *
     * @param begin its first byte, from the end of the header on
     */
    record Entry(DType type, List<Long> shape, long begin) {
        long end() {
            return begin + shape.stream().reduce((long) type.bytes(), Math::multiplyExact);
        }
    }

    private final Map<String, Entry> entries;
    private final long data;

    private Safetensors(Map<String, Entry> entries, long data) {
        this.entries = entries;
        this.data = data;
    }

    /** Returns the byte of a file at which a tensor begins, or throws unless it is of this type and shape. */
    long position(Path file, String name, DType type, List<Long> shape) {
        Entry entry = entries.get(name);
        if (entry == null || entry.type() != type || !entry.shape().equals(shape)) {
            throw new IllegalArgumentException(file + " holds "
                    + (entry == null ? "no " + name : name + " of " + entry.type() + " " + entry.shape())
                    + "; it must be "
                    + type + " " + shape);
        }
        return data + entry.begin();
    }

    /** Returns the bytes before the tensors: a multiple of 8. */
    static ByteBuffer header(Map<String, Entry> entries) {
        JsonObject header = new JsonObject();
        JsonObject metadata = new JsonObject();
        metadata.addProperty("format", "pt");
        header.add("__metadata__", metadata);
        entries.forEach((name, entry) -> {
            JsonArray shape = new JsonArray();
            entry.shape().forEach(shape::add);
            JsonArray offsets = new JsonArray();
            offsets.add(entry.begin());
            offsets.add(entry.end());
            JsonObject tensor = new JsonObject();
            tensor.addProperty("dtype", NAMES.get(entry.type()));
            tensor.add("shape", shape);
            tensor.add("data_offsets", offsets);
            header.add(name, tensor);
        });
        String json = header.toString();
        byte[] bytes = (json + " ".repeat(7 - (json.length() + 7) % 8)).getBytes(StandardCharsets.UTF_8);
        return ByteBuffer.allocate(Long.BYTES + bytes.length)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(bytes.length)
                .put(bytes)
                .flip();
    }

    /**
     * Returns what a file's header says.
     *
     * @throws IOException if it cannot be read, is cut short or is no such file
     */
    static Safetensors read(Path file, FileChannel channel) throws IOException {
        ByteBuffer length = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
        readFully(file, channel, length, 0);
        long bytes = length.getLong(0);
        if (bytes < 2 || bytes > LONGEST_HEADER) {
            throw new IOException(file + " is no safetensors file: its header would have " + bytes + " bytes");
        }
        ByteBuffer json = ByteBuffer.allocate((int) bytes);
        readFully(file, channel, json, Long.BYTES);
        Map<String, Entry> entries = new LinkedHashMap<>();
        long end = 0;
        try {
            JsonObject header = JsonParser.parseString(new String(json.array(), StandardCharsets.UTF_8))
                    .getAsJsonObject();
            for (Map.Entry<String, JsonElement> tensor : header.entrySet()) {
                if (!tensor.getKey().equals("__metadata__")) {
                    Entry entry = entry(tensor.getValue().getAsJsonObject());
                    entries.put(tensor.getKey(), entry);
                    end = Math.max(end, entry.end());
                }
            }
        } catch (JsonParseException | IllegalStateException | UnsupportedOperationException | NullPointerException e) {
            throw new IOException(file + " is no safetensors file: its header is not of that form", e);
        }
        long data = Long.BYTES + bytes;
        if (channel.size() < data + end) {
            throw new EOFException(file + " has " + channel.size() + " bytes; its header tells of " + (data + end));
        }
        return new Safetensors(entries, data);
    }

    private static Entry entry(JsonObject tensor) {
        String name = tensor.get("dtype").getAsString();
        DType type = NAMES.entrySet().stream()
                .filter(each -> each.getValue().equals(name))
                .map(Map.Entry::getKey)
                .findFirst()
                .orElseThrow(() -> new IllegalStateException("dtype " + name));
        List<Long> shape = tensor.getAsJsonArray("shape").asList().stream()
                .map(JsonElement::getAsLong)
                .toList();
        return new Entry(
                type, shape, tensor.getAsJsonArray("data_offsets").get(0).getAsLong());
    }

    /** Reads until the buffer is full. */
    static void readFully(Path file, FileChannel channel, ByteBuffer to, long position) throws IOException {
        long at = position;
        while (to.hasRemaining()) {
            int read = channel.read(to, at);
            if (read < 0) {
                throw new EOFException(file + " is cut short, at byte " + at);
            }
            at += read;
        }
    }

    /** Writes all of the buffer. */
    static void writeFully(FileChannel channel, ByteBuffer from, long position) throws IOException {
        long at = position;
        while (from.hasRemaining()) {
            at += channel.write(from, at);
        }
    }
}
