package org.flashring.cli.train.dense;

import java.util.Locale;

/** The parts of a step, in which a block of memory is in use or not; most come once a layer. */
public enum Phase {
    EMBED,
    /** Norm, projections and rotary positions. */
    INPUT,
    ATTENTION,
    MLP,
    /** The output layer and the loss, forward and backward in one. */
    HEAD,
    INPUT_AGAIN,
    ATTENTION_AGAIN,
    MLP_BACK,
    ATTENTION_BACK,
    INPUT_BACK,
    EMBED_BACK,
    UPDATE;

    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT).replace('_', ' ');
    }
}
