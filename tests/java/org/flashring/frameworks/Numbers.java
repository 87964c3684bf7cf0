package org.flashring.frameworks;

import java.util.Random;

/** What all contestants compute of: the same numbers, in every process. */
final class Numbers {
    static final int HEADS = 8;
    static final int DIM = 64;

    private Numbers() {}

    /** Returns {@code count} numbers about 0, the same for the same {@code seed}. */
    static float[] draw(int seed, int count, double size) {
        Random random = new Random(seed);
        float[] numbers = new float[count];
        for (int i = 0; i < count; i++) {
            numbers[i] = (float) (size * random.nextGaussian());
        }
        return numbers;
    }
}
