package org.flashring.support;

import org.flashring.plan.Gather;
import org.flashring.plan.Halo;
import org.flashring.plan.Ring;
import org.flashring.plan.Strategy;
import org.flashring.plan.Ulysses;

/** Strategies by the names that tables of test cases give them. */
public final class Strategies {
    private Strategies() {}

    /**
     * Returns the strategy of a name: "ring", "ring ahead", "ring 2", "gather 2", "halo", "ulysses", "2 x halo" (2-D).
     */
    public static Strategy named(String name) {
        int times = name.indexOf(" x ");
        if (times > 0) {
            return new Ulysses(Integer.parseInt(name.substring(0, times)), named(name.substring(times + 3)));
        }
        if (name.startsWith("gather ")) {
            return new Gather(Long.parseLong(name.substring("gather ".length())));
        }
        if (name.matches("ring \\d+")) {
            return new Ring(Long.parseLong(name.substring("ring ".length())));
        }
        return switch (name) {
            case "ring" -> new Ring();
            case "ring ahead" -> new Ring(true);
            case "halo" -> new Halo();
            case "ulysses" -> new Ulysses();
            default -> throw new IllegalArgumentException(name);
        };
    }
}
