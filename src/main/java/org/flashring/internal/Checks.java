package org.flashring.internal;

/** Argument checks whose messages name the argument, its value and the rule. They allocate nothing unless they fail. */
public final class Checks {
    private Checks() {}

    /** Returns {@code value}, or throws if it is null. */
    public static <T> T notNull(String name, T value) {
        if (value == null) {
            throw new IllegalArgumentException(name + " is null; it must be given");
        }
        return value;
    }

    /** Returns {@code value}, or throws unless it is at least {@code least}. */
    public static long atLeast(String name, long value, long least) {
        if (value < least) {
            throw broken(name, value, "be at least " + least);
        }
        return value;
    }

    /** Returns {@code value}, or throws unless it lies in [{@code least}, {@code most}]. */
    public static long between(String name, long value, long least, long most) {
        if (value < least || value > most) {
            throw broken(name, value, "lie in [" + least + ", " + most + "]");
        }
        return value;
    }

    /** Throws unless {@code value} equals {@code expected}; {@code rule} says what it is equal to. */
    public static void equal(String name, long value, long expected, String rule) {
        if (value != expected) {
            throw broken(name, value, "be " + expected + ", " + rule);
        }
    }

    /** Returns a * b, or throws if the product overflows; {@code name} says of what. */
    public static long product(String name, long a, long b) {
        long high = Math.multiplyHigh(a, b);
        long low = a * b;
        if ((high != 0 || low < 0) && (high != -1 || low >= 0)) {
            throw new IllegalArgumentException(name + " is " + a + " * " + b + "; it must fit in 63 bits");
        }
        return low;
    }

    /** Returns a + b, or throws if the sum overflows; {@code name} says of what. */
    public static long sum(String name, long a, long b) {
        long sum = a + b;
        if (((a ^ sum) & (b ^ sum)) < 0) {
            throw new IllegalArgumentException(name + " is " + a + " + " + b + "; it must fit in 63 bits");
        }
        return sum;
    }

    /** Throws unless {@code bytes} bytes, if any, can lie at {@code address}, a multiple of {@code alignment}. */
    public static void address(String name, long address, long bytes, int alignment) {
        if (bytes > 0 && (address <= 0 || address % alignment != 0)) {
            throw broken(name, address, "be the address of " + bytes + " bytes, a multiple of " + alignment);
        }
        if (address > Long.MAX_VALUE - bytes) {
            throw broken("end of " + name, address + " + " + bytes, "fit in 63 bits");
        }
    }

    /** Throws if {@code bytes} bytes at {@code address} overlap those of {@code other}. */
    public static void apart(String name, long address, long bytes, String other, long otherAddress, long otherBytes) {
        if (bytes > 0 && otherBytes > 0 && address < otherAddress + otherBytes && otherAddress < address + bytes) {
            throw broken(name, address, "not overlap the " + otherBytes + " bytes at " + other + " = " + otherAddress);
        }
    }

    /** Returns the exception for an argument that breaks a rule; {@code rule} completes "it must …". */
    public static IllegalArgumentException broken(String name, Object value, String rule) {
        return new IllegalArgumentException(name + " is " + value + "; it must " + rule);
    }
}
