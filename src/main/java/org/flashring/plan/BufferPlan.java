package org.flashring.plan;

import org.flashring.AttentionShape;

/**
 * Where each buffer of a rank's operation lies in its one block of memory, in bytes from the start; a buffer that is not needed
 * has no bytes.
 *
 * @param slotBytes    size of each of the two slots in which keys and values travel
 * @param slots        offset of the first slot; the second follows
 * @param state        offset of forward's running output, accumulator type
 * @param lseLow       offset of what rounding takes from lse between forward's steps, accumulator type
 * @param delta        offset of rowsum(out * dout), accumulator type
 * @param queryGrads   offset of dQ, accumulator type
 * @param stepGrads    offset of one step's dK and dV, accumulator type
 * @param wireBytes    size of each of the two slots in which dK and dV travel
 * @param wires        offset of the first of those
 * @param workspace    offset of the kernels' workspace
 * @param totalBytes   size of the block
 */
public record BufferPlan(long slotBytes, long slots, long state, long lseLow, long delta, long queryGrads, long stepGrads, long wireBytes,
        long wires, long workspace, long totalBytes) {
    private static final long ALIGNMENT = 64;

    /** Returns where the buffers of {@code rank} lie. */
    public static BufferPlan of(Plan plan, int rank) {
        AttentionShape shape = plan.shape();
        long wide = shape.dtype().accumulator().bytes();
        boolean rounded = shape.dtype() != shape.dtype().accumulator();
        boolean ring = plan.steps() > 1;
        boolean backward = plan.options().backward();
        long queryRows = shape.batch() * plan.queries().localLength(rank) * shape.queryHeads();

        long largestSlot = 0;
        long largestKeys = 0;
        for (int source = 0; source < plan.worldSize(); source++) {
            largestSlot = Math.max(largestSlot, plan.keyValueBytes(source));
            largestKeys = Math.max(largestKeys, plan.keyElements(source));
        }
        long slotBytes = aligned(ring ? largestSlot : 0);
        long wireBytes = aligned(ring && backward ? largestKeys * plan.wireDType().bytes() : 0);

        long slots = 0;
        long state = slots + 2 * slotBytes;
        boolean resumes = plan.lastComputed(rank) > 0;
        long lseLow = state + aligned(rounded && resumes ? queryRows * shape.valueDim() * wide : 0);
        long delta = lseLow + aligned(resumes ? queryRows * wide : 0);
        long queryGrads = delta + aligned(backward ? queryRows * wide : 0);
        long stepGrads = queryGrads + aligned(backward && rounded ? queryRows * shape.headDim() * wide : 0);
        long wires = stepGrads + aligned(backward && (ring || rounded) ? (ring ? largestKeys : plan.keyElements(rank)) * wide : 0);
        long workspace = wires + 2 * wireBytes;
        return new BufferPlan(slotBytes, slots, state, lseLow, delta, queryGrads, stepGrads, wireBytes, wires, workspace,
                workspace + aligned(plan.workspaceBytes(rank)));
    }

    private static long aligned(long bytes) {
        return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
}
