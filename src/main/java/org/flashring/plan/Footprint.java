package org.flashring.plan;

import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.plan.Schedule.Part;
import org.flashring.plan.Schedule.Slot;
import org.flashring.plan.Schedule.Use;

/**
 * Where each buffer of a rank's operation lies in its one block of memory, in bytes from the start; a buffer that is
 * not needed has no bytes. Between calls nothing lives here, and forward and backward never run together: what one
 * alone needs shares its place with what the other alone needs.
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
 * @param exchange offsets of what an exchange of heads needs; null without one
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
        ExchangeFootprint exchange,
        long workspace,
        long totalBytes) {
    private static final long ALIGNMENT = 64;

    /** Returns the footprint of a rank that runs {@code schedule} of {@code plan}. */
    static Footprint of(Plan plan, Schedule schedule, int rank) {
        Problem solved = schedule.problem(plan.problem());
        AttentionShape shape = solved.shape();
        DType type = shape.dtype();
        DType wide = type.accumulator();
        boolean backward = plan.options().backward();
        boolean rounded = type != wide;
        long queryRows = shape.batch() * solved.queries().localLength(schedule.rank(rank)) * shape.queryHeads();
        long wideQueries = queryRows * wide.bytes();
        boolean resumes = schedule.resumes();

        Offsets offsets = new Offsets(0);
        Long[] slots = new Long[schedule.slots().size()];
        place(slots, schedule, Use.BOTH, true, plan, offsets);
        long ordered = offsets.next(true, schedule.room().ordered() * type.bytes());
        long lse = offsets.next(!backward && schedule.heads() == null, wideQueries);
        ExchangeFootprint kept = ExchangeFootprint.of(schedule.heads(), plan.wireDType(), backward, offsets);

        Offsets ofForward = offsets.fork();
        place(slots, schedule, Use.FORWARD, true, plan, ofForward);
        long state = ofForward.next(rounded && resumes, wideQueries * shape.valueDim());
        long lseLow = ofForward.next(resumes, wideQueries);

        Offsets ofBackward = offsets.fork();
        place(slots, schedule, Use.BACKWARD, backward, plan, ofBackward);
        long delta = ofBackward.next(backward, wideQueries);
        boolean ownGrads = rounded && schedule.heads() == null; // else they gather in an exchange's wide ones
        long queryGrads = ofBackward.next(backward && ownGrads, wideQueries * shape.headDim());
        boolean inPlace = schedule.room().inPlace() && plan.wireDType() == wide;
        long blockGrads = ofBackward.next(
                backward && (ownGrads || !schedule.slots().isEmpty()) && !inPlace,
                schedule.room().block() * wide.bytes());
        long home = ofBackward.next(backward, schedule.room().home() * wide.bytes());
        ExchangeFootprint exchange = kept == null ? null : kept.withGradients(schedule.heads(), backward, ofBackward);

        Offsets rest = Offsets.behind(ofForward, ofBackward);
        long workspace = rest.next(true, plan.workspaceBytes(rank));
        return new Footprint(
                List.of(slots),
                ordered,
                state,
                lseLow,
                lse,
                delta,
                queryGrads,
                blockGrads,
                home,
                exchange,
                workspace,
                rest.end);
    }

    /** Returns the bytes that the steps' kernels may use. */
    public long workspaceBytes() {
        return totalBytes - workspace;
    }

    /** Puts the schedule's slots of one use one behind the other; they have no bytes unless {@code needed}. */
    private static void place(Long[] slots, Schedule schedule, Use use, boolean needed, Plan plan, Offsets offsets) {
        for (int i = 0; i < slots.length; i++) {
            Slot slot = schedule.slots().get(i);
            if (slot.use() == use) {
                DType type = slot.part() == Part.KEY_GRADS
                        ? plan.wireDType()
                        : plan.shape().dtype();
                slots[i] = offsets.next(needed, slot.elements() * type.bytes());
            }
        }
    }

    /** Puts buffers one behind the other. */
    static final class Offsets {
        private long end;

        private Offsets(long start) {
            end = start;
        }

        /** Returns others that begin where these have come to. */
        Offsets fork() {
            return new Offsets(end);
        }

        /** Returns others that begin behind both. */
        static Offsets behind(Offsets a, Offsets b) {
            return new Offsets(Math.max(a.end, b.end));
        }

        /** Returns where the next buffer begins; it has no bytes unless {@code needed}. */
        long next(boolean needed, long bytes) {
            long start = end;
            end += needed ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : 0;
            return start;
        }
    }
}
