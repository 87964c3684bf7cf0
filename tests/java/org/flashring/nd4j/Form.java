package org.flashring.nd4j;

import static org.nd4j.linalg.indexing.NDArrayIndex.all;
import static org.nd4j.linalg.indexing.NDArrayIndex.interval;
import static org.nd4j.linalg.indexing.NDArrayIndex.point;

import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** Ways for a [batch, heads, length, dim] array to lie in a larger one, the elements of a head side by side. */
enum Form {
    DENSE,
    LENGTH_BEFORE_HEADS,
    PART,
    PACKED,
    LENGTH_FIRST,
    FORTRAN,
    EVERY_OTHER_TOKEN,
    ONE_HEAD_FOR_ALL,
    ONE_ROW_FOR_ALL,
    ONE_TOKEN_FOR_ALL;

    /** Returns whether every element has a place of its own. */
    boolean isInjective() {
        return ordinal() < ONE_HEAD_FOR_ALL.ordinal();
    }

    /** Returns the array that the view is a part of, filled by what {@code values} makes of its shape. */
    INDArray base(DataType type, long b, long h, long s, long d, java.util.function.Function<long[], INDArray> values) {
        if (b * h * s == 0) {
            return Nd4j.create(type, b, h, s, d);
        }
        long[] shape =
                switch (this) {
                    case DENSE -> new long[] {b, h, s, d};
                    case LENGTH_BEFORE_HEADS -> new long[] {b, s, h, d};
                    case PART -> new long[] {b + 1, h + 2, s + 3, d + 5};
                    case PACKED -> new long[] {b, s, 3, h, d};
                    case LENGTH_FIRST -> new long[] {s, b, h, d};
                    case FORTRAN -> new long[] {d, s, h, b};
                    case EVERY_OTHER_TOKEN -> new long[] {b, h, 2 * s, d};
                    case ONE_HEAD_FOR_ALL -> new long[] {b, 1, s, d};
                    case ONE_ROW_FOR_ALL -> new long[] {1, h, s, d};
                    case ONE_TOKEN_FOR_ALL -> new long[] {b, h, 1, d};
                };
        return values.apply(shape).dup(this == FORTRAN ? 'f' : 'c');
    }

    INDArray view(INDArray base, long b, long h, long s, long d) {
        if (base.isEmpty()) {
            return base;
        }
        return switch (this) {
            case DENSE -> base;
            case LENGTH_BEFORE_HEADS -> base.permute(0, 2, 1, 3);
            case PART -> base.get(interval(1, b + 1), interval(2, h + 2), interval(1, s + 1), interval(4, d + 4));
            case PACKED -> base.get(all(), all(), point(1), all(), all()).permute(0, 2, 1, 3);
            case LENGTH_FIRST -> base.permute(1, 2, 0, 3);
            case FORTRAN -> base.permute(3, 2, 1, 0);
            case EVERY_OTHER_TOKEN -> base.get(all(), all(), interval(0, 2, 2 * s), all());
            case ONE_HEAD_FOR_ALL -> expanded(base, b, h, s, d, s * d, 0, d);
            case ONE_ROW_FOR_ALL -> expanded(base, b, h, s, d, 0, s * d, d);
            case ONE_TOKEN_FOR_ALL -> expanded(base, b, h, s, d, h * d, d, 0);
        };
    }

    private static INDArray expanded(
            INDArray base, long b, long h, long s, long d, long batchStride, long headStride, long tokenStride) {
        return Nd4j.create(
                base.data(),
                new long[] {b, h, s, d},
                new long[] {batchStride, headStride, tokenStride, 1},
                0,
                'c',
                base.dataType());
    }
}
