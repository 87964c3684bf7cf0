package org.flashring.cli.train.dense;

/** Initial values as a pure function of (seed, parameter, element): the same whatever ranks there are. */
final class InitialValues {
    private static final long STEP = 0x9E3779B97F4A7C15L; // of SplitMix64 (Steele, Lea and Flood 2014)
    private static final double UNIT = 0x1p-53;

    private InitialValues() {}

    /** Returns the initial value of an element of a parameter. */
    static double of(long seed, Parameters.Parameter parameter, long element) {
        if (parameter.deviation() == 0) {
            return 1;
        }
        long stream = mix(mix(seed) + parameter.number() * STEP);
        double radius = (mix(stream + 2 * element * STEP) >>> 11) * UNIT;
        double turn = (mix(stream + (2 * element + 1) * STEP) >>> 11) * UNIT;
        // Box and Muller 1958; 1 - radius lies in (0, 1]
        return parameter.deviation() * Math.sqrt(-2 * Math.log(1 - radius)) * Math.cos(2 * Math.PI * turn);
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
