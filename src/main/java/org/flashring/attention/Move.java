package org.flashring.attention;

import org.flashring.Tensor;
import org.flashring.kernel.TensorMath;

/** A copy of keys and values, or of their gradients, between two places of this rank's memory, and the caller's. */
sealed interface Move {
    /** Sets {@code to} to {@code from}, rounded to its type. */
    record Copy(KeyTensors to, KeyTensors from) implements Move {}

    /** Sets {@code to} to {@code x + y}, rounded to its type. */
    record Sum(KeyTensors to, KeyTensors x, KeyTensors y) implements Move {}

    /** Sets {@code to} to the part of the caller's own that begins at a row and a head. */
    record Load(KeyTensors to, long row, long head) implements Move {}

    /** Sets the part of the caller's own from head {@code head} on to {@code from}, rounded to its type. */
    record Store(KeyTensors from, long head) implements Move {}

    /** Does all of {@code moves}; {@code keys} and {@code values} are the caller's own. */
    static void all(Move[] moves, TensorMath math, Tensor keys, Tensor values) {
        for (Move move : moves) {
            if (move instanceof Copy copy) {
                math.convert(copy.to().keys(), copy.from().keys());
                math.convert(copy.to().values(), copy.from().values());
            } else if (move instanceof Sum sum) {
                math.sum(sum.to().keys(), sum.x().keys(), sum.y().keys());
                math.sum(sum.to().values(), sum.x().values(), sum.y().values());
            } else if (move instanceof Load load) {
                math.load(load.to().keys(), keys, load.row(), load.head());
                math.load(load.to().values(), values, load.row(), load.head());
            } else if (move instanceof Store store) {
                math.store(keys, 0, store.head(), store.from().keys());
                math.store(values, 0, store.head(), store.from().values());
            }
        }
    }
}
