package org.flashring.support;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.function.BiFunction;

/**
 * Writes ONNX graphs of matrix products: a message of Protocol Buffers is a row of fields, each a number that tells the
 * field and its kind, then an integer or bytes. Numbers of fields are those of onnx.proto.
 */
public final class OnnxModel {
    private static final int FLOAT = 1;
    private static final int IR_VERSION = 8;
    private static final int OPERATIONS_VERSION = 13;

    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

    private OnnxModel() {}

    /**
     * Returns the file of a graph that multiplies {@code input}, [1, length, width], by a matrix for each output.
     *
     * @param outputs the value of a matrix's row and column, by the name of the output
     */
    public static byte[] products(
            String input, int length, int width, Map<String, BiFunction<Integer, Integer, Float>> outputs) {
        OnnxModel graph = new OnnxModel();
        outputs.forEach((name, matrix) -> graph.message(1, node -> node.text(1, input)
                .text(1, name + "-weights")
                .text(2, name)
                .text(4, "MatMul")));
        graph.text(2, "products");
        outputs.forEach((name, matrix) -> graph.message(5, tensor -> tensor.number(1, width)
                .number(1, width)
                .number(2, FLOAT)
                .text(8, name + "-weights")
                .data(9, values(width, matrix))));
        graph.message(11, value -> value.described(input, length, width));
        outputs.keySet().forEach(name -> graph.message(12, value -> value.described(name, length, width)));
        return new OnnxModel()
                .number(1, IR_VERSION)
                .data(7, graph.bytes.toByteArray())
                .message(8, operations -> operations.text(1, "").number(2, OPERATIONS_VERSION))
                .bytes
                .toByteArray();
    }

    private static byte[] values(int width, BiFunction<Integer, Integer, Float> matrix) {
        ByteBuffer values = ByteBuffer.allocate(width * width * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
        for (int row = 0; row < width; row++) {
            for (int column = 0; column < width; column++) {
                values.putFloat(matrix.apply(row, column));
            }
        }
        return values.array();
    }

    private void described(String name, int length, int width) {
        text(1, name)
                .message(
                        2,
                        type -> type.message(
                                1, tensor -> tensor.number(1, FLOAT).message(2, shape -> {
                                    for (int size : new int[] {1, length, width}) {
                                        shape.message(1, dimension -> dimension.number(1, size));
                                    }
                                })));
    }

    private OnnxModel message(int field, java.util.function.Consumer<OnnxModel> fields) {
        OnnxModel message = new OnnxModel();
        fields.accept(message);
        return data(field, message.bytes.toByteArray());
    }

    private OnnxModel text(int field, String text) {
        return data(field, text.getBytes(StandardCharsets.UTF_8));
    }

    private OnnxModel number(int field, long value) {
        varint((long) field << 3);
        varint(value);
        return this;
    }

    private OnnxModel data(int field, byte[] data) {
        varint((long) field << 3 | 2);
        varint(data.length);
        bytes.writeBytes(data);
        return this;
    }

    /** Seven bits a byte, the lowest first; the eighth says that more follow. */
    private void varint(long value) {
        long rest = value;
        while (rest > 127) {
            bytes.write((int) (rest & 127 | 128));
            rest >>>= 7;
        }
        bytes.write((int) rest);
    }
}
