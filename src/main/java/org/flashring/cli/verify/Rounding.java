package org.flashring.cli.verify;

import org.flashring.DType;

/** Rounds numbers to the nearest that an element type can hold, ties to even. */
final class Rounding {
    private static final double SMALLEST_FLOAT16 = 0x1p-24; // denormals are multiples of it

    private Rounding() {}

    /** Returns {@code value} rounded to {@code dtype}; beyond its range is not looked after. */
    static double round(DType dtype, double value) {
        return switch (dtype) {
            case FLOAT64 -> value;
            case FLOAT32 -> (float) value;
            case BFLOAT16 -> toMultiple((float) value, Math.ulp((float) value) * 0x1p16);
            case FLOAT16 -> toMultiple((float) value, Math.max(Math.ulp((float) value) * 0x1p13, SMALLEST_FLOAT16));
        };
    }

    /** Returns the largest relative error of rounding to {@code dtype}. */
    static double unit(DType dtype) {
        return switch (dtype) {
            case FLOAT64 -> 0x1p-53;
            case FLOAT32 -> 0x1p-24;
            case BFLOAT16 -> 0x1p-8;
            case FLOAT16 -> 0x1p-11;
        };
    }

    private static double toMultiple(double value, double quantum) {
        return Math.rint(value / quantum) * quantum;
    }
}
