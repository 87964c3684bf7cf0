package org.flashring.cli.train.dense;

/**
 * Initial values of a parameter as a pure function of (seed, parameter, element): the same whatever ranks there are.
 *
 * @param stream number of the parameter's values among all
 * @param deviation of normal values; 0 for ones
 */
record InitialValues(long stream, double deviation) {
    private static final long STEP = 0x9E3779B97F4A7C15L; // of SplitMix64 (Steele, Lea and Flood 2014)
    private static final double UNIT = 0x1p-53;

    /** Returns those of a parameter by a seed. */
    static InitialValues of(long seed, Parameters.Parameter parameter) {
        return new InitialValues(seed(seed, parameter.number()), parameter.deviation());
    }

    /** Sets {@code to} to the values of {@code count} elements from {@code first} on. */
    void fill(long first, double[] to, int count) {
        for (int i = 0; i < count; i++) {
            to[i] = deviation == 0 ? 1 : value(first + i);
        }
    }

    private double value(long element) {
        double radius = (mix(stream + 2 * element * STEP) >>> 11) * UNIT;
        double turn = (mix(stream + (2 * element + 1) * STEP) >>> 11) * UNIT;
        // Box and Muller 1958; 1 - radius lies in (0, 1]
        return deviation * Math.sqrt(-2 * Math.log(1 - radius)) * Math.cos(2 * Math.PI * turn);
    }

    /** Returns a seed for what comes as number {@code index} of those of {@code seed}. */
    static long seed(long seed, long index) {
        return mix(mix(seed) + index * STEP);
    }

    private static long mix(long value) {
        long z = value + STEP;
        z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
        z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
        return z ^ z >>> 31;
    }
}
