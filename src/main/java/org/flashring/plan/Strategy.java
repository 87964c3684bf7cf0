package org.flashring.plan;

import java.util.function.IntFunction;

/**
 * How the keys and values of all ranks come to the queries of each. Pure: a problem goes in, every rank's schedule
 * comes out.
 */
public sealed interface Strategy permits Ring, Gather, Halo, Ulysses {
    /** Returns the schedule of each rank, by its number; what ranks have in common is worked out here, once. */
    IntFunction<Schedule> schedules(Problem problem);
}
