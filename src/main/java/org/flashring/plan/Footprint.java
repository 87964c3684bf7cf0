package org.flashring.plan;

import java.util.ArrayList;
import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.plan.Schedule.Part;
import org.flashring.plan.Schedule.Slot;

/**
 * Where each buffer of a rank's operation lies in its one block of memory, in bytes from the start; a buffer that is
 * not needed has no bytes.
 *
 * @param slots offset of each slot of the schedule: keys in the tensors' type, gradients in that in which they travel
 * @param ordered offset of keys and values of several ranks in order of their positions, the tensors' type
 * @param state offset of forward's running output, accumulator type
 * @param lseLow offset of what rounding takes from lse between forward's steps, accumulator type
 * @param lse offset of lse where the caller of a plan without backward gives none, accumulator type
 * @param delta offset of rowsum(out * dout), accumulator type
 * @param queryGrads offset of dQ, accumulator type
 * @param blockGrads offset of one block's dK and dV, accumulator type
 * @param home offset of own dK and dV to which those of other ranks are added, accumulator type
 * @param workspace offset of the kernels' workspace
 * @param totalBytes size of the block
 */
public record Footprint(
        List<Long> slots,
        long ordered,
        long state,
        long lseLow,
        long lse,
        long delta,
        long queryGrads,
        long blockGrads,
        long home,
        long workspace,
        long totalBytes) {
    private static final long ALIGNMENT = 64;

    /** Returns the footprint of a rank that runs {@code schedule} of {@code plan}. */
    static Footprint of(Plan plan, Schedule schedule, int rank) {
        AttentionShape shape = plan.shape();
        DType type = shape.dtype();
        DType wide = type.accumulator();
        boolean backward = plan.options().backward();
        boolean rounded = type != wide;
        long queryRows = shape.batch() * plan.queries().localLength(rank) * shape.queryHeads();
        long wideQueries = queryRows * wide.bytes();
        boolean resumes = schedule.resumes();

        Offsets offsets = new Offsets();
        List<Long> slots = new ArrayList<>();
        for (Slot slot : schedule.slots()) {
            boolean grads = slot.part() == Part.KEY_GRADS;
            slots.add(offsets.next(!grads || backward, slot.elements() * (grads ? plan.wireDType() : type).bytes()));
        }
        long ordered = offsets.next(true, schedule.room().ordered() * type.bytes());
        long state = offsets.next(rounded && resumes, wideQueries * shape.valueDim());
        long lseLow = offsets.next(resumes, wideQueries);
        long lse = offsets.next(!backward, wideQueries);
        long delta = offsets.next(backward, wideQueries);
        long queryGrads = offsets.next(backward && rounded, wideQueries * shape.headDim());
        long blockGrads = offsets.next(
                backward && (rounded || !schedule.slots().isEmpty()),
                schedule.room().block() * wide.bytes());
        long home = offsets.next(backward, schedule.room().home() * wide.bytes());
        long workspace = offsets.next(true, plan.workspaceBytes(rank));
        return new Footprint(
                List.copyOf(slots),
                ordered,
                state,
                lseLow,
                lse,
                delta,
                queryGrads,
                blockGrads,
                home,
                workspace,
                offsets.end);
    }

    /** Returns the bytes that the steps' kernels may use. */
    public long workspaceBytes() {
        return totalBytes - workspace;
    }

    private static final class Offsets {
        private long end;

        /** Returns where the next buffer begins; it has no bytes unless {@code needed}. */
        long next(boolean needed, long bytes) {
            long start = end;
            end += needed ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : 0;
            return start;
        }
    }
}
