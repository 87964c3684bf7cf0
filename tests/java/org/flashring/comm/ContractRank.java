package org.flashring.comm;

import java.time.Duration;
import java.util.List;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.flashring.launch.Environment;

/** The contract where ranks are processes: each of them runs it as the one rank that it is. */
public final class ContractRank {
    private ContractRank() {}

    /**
     * Runs it, all of it but what takes a latch that all ranks see; {@code join} makes a new group of all processes.
     */
    public static void run(Function<Duration, Communicator> join) {
        int world = Environment.current().worldSize();
        CommunicatorContract contract = new CommunicatorContract() {
            @Override
            protected IntStream worlds() {
                return IntStream.of(world);
            }

            @Override
            protected List<Communicator> group(int size, Duration deadline) {
                return List.of(join.apply(deadline));
            }
        };
        contract.exchangesKeepTheirOrder(world);
        contract.batchesTakeAnySizesToAnyRanks(world);
        contract.collectivesOfEqualParts(world);
        contract.unequalPartsAreGathered(world);
        contract.unequalPartsAreSummed(world);
        contract.partsOfAGroupAreGroups(world);
    }
}
