package org.flashring.comm.nccl;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.bytedeco.cuda.nccl.ncclComm;
import org.flashring.internal.Nccl;

/**
 * The ranks of one group that live in this process. They leave together: NCCL frees the memory of all of them when the
 * last one goes, which waits for their devices; a rank that had gone on would have given its device work that waits for
 * the last one.
 */
final class NcclLocalRanks {
    private final String name;
    private final int size;
    private final List<ncclComm> left = new ArrayList<>();
    private final Map<List<Integer>, NcclLocalRanks> parts = new HashMap<>();
    private int gone;
    private boolean empty;

    NcclLocalRanks(String name, int size) {
        this.name = name;
        this.size = size;
    }

    /**
     * Returns the group's name, the same in all processes: empty for the first one, then each split's number and color.
     */
    String name() {
        return name;
    }

    /**
     * Returns the ranks here of those who gave {@code color} in the {@code number}-th split: {@code members} ranks,
     * wherever they live.
     */
    synchronized NcclLocalRanks part(int number, int color, int members) {
        return parts.computeIfAbsent(
                List.of(number, color),
                key -> new NcclLocalRanks(name + "/" + number + ":" + color, size == 1 ? 1 : members));
    }

    /**
     * Leaves with what NCCL gave this rank, nothing if that is ended already. Returns once all ranks here have left or
     * the time is over; the last one frees everything. After a failure there is nobody to wait for, and NCCL may never
     * come back.
     */
    synchronized void leave(List<ncclComm> comms, boolean failed, long nanos) {
        left.addAll(comms);
        if (++gone == size) {
            if (failed) {
                NcclWatchdog.end(List.of(), () -> Nccl.abort(left));
            } else {
                left.forEach(Nccl::destroy);
            }
            empty = true;
            notifyAll();
            return;
        }
        long end = System.nanoTime() + (failed ? 0 : nanos);
        try {
            while (!empty && end - System.nanoTime() > 0) {
                TimeUnit.NANOSECONDS.timedWait(this, end - System.nanoTime());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
