package org.flashring.cli.train.dense;

import java.util.Locale;

/** What backward computes again instead of keeping it. */
public enum Recompute {
    /** Norms and products of elements alone: what attention and dense layers made of a layer's input is kept. */
    NONE,
    /** Dense layers alone: a layer's input, attention's output and its lse are kept. */
    KEEP,
    /** Attention too: a layer's input alone is kept. */
    FULL;

    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }
}
