package org.flashring.cli.support;

import java.util.function.IntUnaryOperator;

/** How the bytes of a text become tokens of a model, and tokens bytes. */
public enum Vocabulary {
    /** A token is a byte. */
    BYTES(1),
    /** A token is two bytes, wherever in the text the window begins; its number is first + 256 second. */
    PAIRS(2);

    private final int bytes;

    Vocabulary(int bytes) {
        this.bytes = bytes;
    }

    /**
     * Returns the vocabulary of so many tokens.
     *
     * @param name of the number, for the message
     * @throws IllegalArgumentException if none has as many
     */
    public static Vocabulary ofSize(String name, int size) {
        for (Vocabulary each : values()) {
            if (each.size() == size) {
                return each;
            }
        }
        throw new IllegalArgumentException(name + " is " + size + "; it must be " + BYTES.size() + ", one a byte, or "
                + PAIRS.size() + ", one a pair of bytes, as train --vocab has them");
    }

    /** Returns the bytes of a token. */
    public int bytes() {
        return bytes;
    }

    /** Returns what people call a token. */
    public String token() {
        return bytes == 1 ? "byte" : "byte pair";
    }

    /** Returns the number of different tokens. */
    public int size() {
        return 1 << Byte.SIZE * bytes;
    }

    /** Returns the token that begins at byte {@code at} of a text, whose bytes are given unsigned. */
    public long token(IntUnaryOperator text, int at) {
        long token = 0;
        for (int i = bytes - 1; i >= 0; i--) {
            token = token << Byte.SIZE | text.applyAsInt(at + i);
        }
        return token;
    }

    /** Returns byte {@code number} of a token, from 0 on. */
    public byte byteOf(long token, int number) {
        return (byte) (token >> Byte.SIZE * number);
    }
}
