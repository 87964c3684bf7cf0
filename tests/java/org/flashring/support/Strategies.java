package org.flashring.support;

import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;

/** Strategies by the names that tables of test cases give them. */
public final class Strategies {
    private Strategies() {}

    /** Returns the strategy of a name: "ring", "gather 2", "halo". */
    public static Strategy named(String name) {
        if (name.startsWith("gather ")) {
            return new Gather(Long.parseLong(name.substring("gather ".length())));
        }
        return switch (name) {
            case "ring" -> new Ring();
            case "halo" -> new Halo();
            default -> throw new IllegalArgumentException(name);
        };
    }
}
