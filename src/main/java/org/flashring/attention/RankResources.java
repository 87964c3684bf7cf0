package org.flashring.attention;

import org.flashring.comm.Communicator;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Made;
import org.flashring.kernel.StepKernel;
import org.flashring.kernel.TensorMath;
import org.flashring.plan.Footprint;
import org.flashring.plan.Plan;
import org.flashring.plan.Schedule;

/** What one rank computes with: its block of memory, what has its place there, and kernels. All is made once. */
final class RankResources implements AutoCloseable {
    private static final BoundStep[] NONE = {};

    private final OwnedMemory block;
    private final QueryTensors queries;
    private final HeadExchanger heads;
    private final long firstHead;
    private final BoundStep[] forward;
    private final BoundStep[] backward;
    private final StepKernel kernel;
    private final StepKernel ownRows;
    private final TensorMath math;

    /** @throws OutOfMemoryError if the memory cannot be had */
    RankResources(Plan plan, Communicator communicator) {
        int rank = communicator.rank();
        Device device = communicator.device();
        Schedule schedule = plan.schedule(rank);
        Footprint footprint = plan.footprint(rank, schedule);
        try (Made made = new Made()) {
            this.block = made.add(communicator.allocate(footprint.totalBytes()));
            this.queries = new QueryTensors(
                    schedule.problem(plan.problem()),
                    footprint,
                    schedule.resumes(),
                    schedule.rank(rank),
                    block.address());
            this.heads = schedule.heads() == null
                    ? null
                    : new HeadExchanger(schedule.heads(), plan, footprint, queries.delta(), block.address());
            this.firstHead =
                    schedule.heads() == null ? 0 : schedule.heads().share().firstQuery();
            StepBinder binder = new StepBinder(plan, schedule, footprint, rank, block.address());
            this.forward = binder.forward();
            this.backward = plan.options().backward() ? binder.backward() : NONE;
            this.kernel = made.add(plan.kernel(rank, schedule));
            this.kernel.workspace(block.address() + footprint.workspace(), footprint.workspaceBytes());
            this.kernel.place(device);
            this.ownRows = heads == null || !plan.options().backward() ? kernel : made.add(plan.ownRowsKernel(rank));
            if (ownRows != kernel) {
                ownRows.place(device);
            }
            this.math = made.add(new TensorMath(device));
            made.keep();
        }
    }

    long bytes() {
        return block.bytes();
    }

    QueryTensors queries() {
        return queries;
    }

    /** Returns who exchanges heads with the members of this rank's group; null where each rank keeps its rows. */
    HeadExchanger heads() {
        return heads;
    }

    /** Returns the first of the query heads that the steps compute. */
    long firstHead() {
        return firstHead;
    }

    BoundStep[] forward() {
        return forward;
    }

    /** Returns the steps of backward; none where the plan has none. */
    BoundStep[] backward() {
        return backward;
    }

    StepKernel kernel() {
        return kernel;
    }

    /** Returns the kernel for delta, whose rows are the caller's own: another one where heads are exchanged. */
    StepKernel ownRows() {
        return ownRows;
    }

    TensorMath math() {
        return math;
    }

    /** Runs what follows in the order of {@code stream}. */
    void stream(long stream) {
        kernel.stream(stream);
        ownRows.stream(stream);
        math.stream(stream);
    }

    @Override
    public void close() {
        math.close();
        if (ownRows != kernel) {
            ownRows.close();
        }
        kernel.close();
        block.close();
    }
}
