package org.flashring.support;

import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;

/** Strategies by the names that tables of test cases give them. */
public final class Strategies {
    private Strategies() {}

    /** Returns the strategy of a name: "ring", "gather 2", "halo", "ulysses". */
    public static Strategy named(String name) {
        if (name.startsWith("gather ")) {
            return new Gather(Long.parseLong(name.substring("gather ".length())));
        }
        return switch (name) {
            case "ring" -> new Ring();
            case "halo" -> new Halo();
            case "ulysses" -> new Ulysses();
            default -> throw new IllegalArgumentException(name);
        };
    }
}
