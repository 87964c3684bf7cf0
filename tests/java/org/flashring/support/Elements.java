package org.flashring.support;

import java.nio.ByteBuffer;
import org.flashring.DType;

/** Element types as the tests understand them: rounding by arithmetic, not by the bit tricks of the library. */
public final class Elements {
    private Elements() {}

    /** Returns {@code value} rounded to the nearest number of {@code dtype}, ties to even. */
    public static double round(DType dtype, double value) {
        return switch (dtype) {
            case FLOAT64 -> value;
            case FLOAT32 -> (float) value;
            case BFLOAT16 -> round(value, 8, -126);
            case FLOAT16 -> {
                double rounded = round(value, 11, -14);
                yield Math.abs(rounded) > 65504 ? Math.copySign(Double.POSITIVE_INFINITY, value) : rounded;
            }
        };
    }

    private static double round(double value, int bits, int leastExponent) {
        if (value == 0 || !Double.isFinite(value)) {
            return value;
        }
        double unit = Math.scalb(1.0, Math.max(Math.getExponent(value), leastExponent) - (bits - 1));
        return Math.rint(value / unit) * unit;
    }

    /** Returns element {@code index} of {@code bytes}. */
    public static double get(DType dtype, ByteBuffer bytes, int index) {
        return switch (dtype) {
            case FLOAT64 -> bytes.getDouble(8 * index);
            case FLOAT32 -> bytes.getFloat(4 * index);
            case BFLOAT16 -> Float.intBitsToFloat(bytes.getShort(2 * index) << 16);
            case FLOAT16 -> widen(bytes.getShort(2 * index));
        };
    }

    /** Sets element {@code index} of {@code bytes} to {@code value}, rounded. */
    public static void put(DType dtype, ByteBuffer bytes, int index, double value) {
        double rounded = round(dtype, value);
        switch (dtype) {
            case FLOAT64 -> bytes.putDouble(8 * index, rounded);
            case FLOAT32 -> bytes.putFloat(4 * index, (float) rounded);
            case BFLOAT16 -> bytes.putShort(2 * index, (short) (Float.floatToRawIntBits((float) rounded) >>> 16));
            case FLOAT16 -> bytes.putShort(2 * index, narrow(rounded));
        }
    }

    private static double widen(short bits) {
        int exponent = bits >> 10 & 31;
        int fraction = bits & 1023;
        double magnitude = exponent == 31
                ? (fraction == 0 ? Double.POSITIVE_INFINITY : Double.NaN)
                : exponent == 0 ? Math.scalb((double) fraction, -24) : Math.scalb(1024.0 + fraction, exponent - 25);
        return bits < 0 ? -magnitude : magnitude;
    }

    private static short narrow(double value) {
        int sign = Math.copySign(1, value) < 0 ? 0x8000 : 0;
        double magnitude = Math.abs(value);
        if (!Double.isFinite(magnitude)) {
            return (short) (sign | (Double.isNaN(magnitude) ? 0x7e00 : 0x7c00));
        }
        int exponent = Math.max(Math.getExponent(magnitude), -14);
        int significand = (int) Math.scalb(magnitude, 10 - exponent); // below 1024 for denormals alone
        return (short) (sign | (significand < 1024 ? significand : (exponent + 15 << 10) + significand - 1024));
    }
}
