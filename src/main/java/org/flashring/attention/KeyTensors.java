package org.flashring.attention;

import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.device.Memory;

/** Keys and values, or their gradients, in this rank's block: keys first, values behind them, dense. */
record KeyTensors(Tensor keys, Tensor values) {
    /** Returns those of {@code rows} rows and {@code heads} heads at {@code address}. */
    static KeyTensors at(long address, AttentionShape shape, DType dtype, long rows, long heads) {
        Tensor keys = Tensor.bshd(Memory.of(address), dtype, shape.batch(), rows, heads, shape.headDim());
        long values = address + keys.elements() * dtype.bytes();
        return new KeyTensors(
                keys, Tensor.bshd(Memory.of(values), dtype, shape.batch(), rows, heads, shape.valueDim()));
    }

    /** Returns {@code count} rows of these, {@code stride} apart, from {@code first} on. */
    KeyTensors rows(long first, long count, long stride) {
        return new KeyTensors(rows(keys, first, count, stride), rows(values, first, count, stride));
    }

    /** Returns {@code count} rows of a tensor, {@code stride} apart, from {@code first} on. */
    static Tensor rows(Tensor of, long first, long count, long stride) {
        Memory memory =
                Memory.of(of.address() + first * of.strideLength() * of.dtype().bytes());
        return Tensor.strided(
                memory,
                of.dtype(),
                of.batch(),
                count,
                of.heads(),
                of.dim(),
                of.strideBatch(),
                stride * of.strideLength(),
                of.strideHead());
    }

    /** Where a range of one rank's rows stands among the rows of several ranks in order of their positions. */
    record Range(long ownRow, long count, long row, long stride) {
        /** Returns the ranges of {@code positions} among all {@code members}. */
        static List<Range> of(Positions positions, List<Positions> members) {
            return positions.ranges().stream()
                    .map(range -> {
                        long first = before(range.start(), members);
                        long stride = range.length() == 1 ? 1 : before(range.start() + range.stride(), members) - first;
                        return new Range(positions.lowerBound(range.start()), range.length(), first, stride);
                    })
                    .toList();
        }

        private static long before(long position, List<Positions> members) {
            return members.stream()
                    .mapToLong(member -> member.lowerBound(position))
                    .sum();
        }
    }
}
