package org.flashring;

/** Element type of a tensor. */
public enum DType {
    FLOAT64(8),
    FLOAT32(4),
    BFLOAT16(2),
    FLOAT16(2);

    private final int bytes;

    DType(int bytes) {
        this.bytes = bytes;
    }

    /** Returns the size of one element, in bytes. */
    public int bytes() {
        return bytes;
    }

    /** Returns the type in which sums over this type are kept: float64 for float64, float32 for all others. */
    public DType accumulator() {
        return this == FLOAT64 ? FLOAT64 : FLOAT32;
    }

    /** Returns the number that stands for this type in the native interface ({@code flashring_dtype}). */
    public int code() {
        return ordinal();
    }
}
