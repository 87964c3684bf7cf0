package org.flashring.serve;

import org.flashring.DType;

/** What a cache holds of keys and values. */
public enum CacheType {
    /** Elements of the shape's type. */
    OF_SHAPE(0),
    /**
     * A byte each, e4m3 of the OCP 8-bit formats (Micikevicius et al. 2022), times the scale of its key head
     * ({@link Cache#scales}): numbers to 448 with 4 significant bits, NaN, no infinity. What is larger becomes the
     * largest. Of shapes of bfloat16 and float16 alone.
     */
    FLOAT8_E4M3(1);

    private final int code;

    CacheType(int code) {
        this.code = code;
    }

    /** Returns the number that stands for this type in the native interface ({@code flashring_kv_dtype}). */
    public int code() {
        return code;
    }

    /** Returns the bytes of a number in a cache of a shape's type. */
    int bytes(DType ofShape) {
        return this == OF_SHAPE ? ofShape.bytes() : 1;
    }
}
