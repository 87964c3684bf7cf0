package org.flashring.kernel;

import java.util.ArrayList;
import java.util.List;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Score;
import org.flashring.internal.Native;
import org.flashring.internal.NativeStructs;

/**
 * A row of the capability table: what one kernel serves. The table itself is native and the only one; plans refuse by
 * it, {@code flashring info} prints it and the README's table is checked against it.
 *
 * @param kernel which kernel
 * @param cuda whether it runs on a GPU
 * @param dtype element type served
 * @param maxHeadDim largest head dim served, by all passes that there are
 * @param maxValueDim largest value dim served
 * @param forward whether forward is served
 * @param backward whether backward is served
 * @param unequalDims whether the value dim may differ from the head dim
 * @param forwardDim largest head dim and value dim of forward, at least those above
 * @param latent whether forward takes a head dim of 576 with a value dim of 512, too (multi-head latent attention)
 * @param softcap whether scores may be bounded by a softcap
 * @param sinks whether heads may have sinks
 * @param alibi whether heads may have ALiBi slopes
 * @param available whether this machine can run it, and it is not ruled out
 * @param name short name
 * @param requirement what a machine must have
 * @param cause why it is not available, such as "this machine lacks AVX2 and FMA" or "ruled out by FLASHRING_MAX_KERNEL
 *     = avx2"; empty where it is
 */
public record Capability(
        Kernel kernel,
        boolean cuda,
        DType dtype,
        int maxHeadDim,
        int maxValueDim,
        boolean forward,
        boolean backward,
        boolean unequalDims,
        int forwardDim,
        boolean latent,
        boolean softcap,
        boolean sinks,
        boolean alibi,
        boolean available,
        String name,
        String requirement,
        String cause) {
    /** Returns whether it serves {@code score}, forward and backward. */
    public boolean serves(Score score) {
        return (softcap || score.softcap() == 0)
                && (sinks || !score.sinks())
                && (alibi || score.alibiSlopes().isEmpty());
    }

    /**
     * Returns all rows, in the order in which {@link Kernel#AUTO} tries them.
     *
     * @throws IllegalArgumentException if kernels are capped at a name that none has
     */
    public static List<Capability> all() {
        List<Capability> rows = new ArrayList<>();
        try (NativeStructs.CapabilityRow row = Native.newCapabilityRow()) {
            for (int i = 0; i < Native.capabilityCount(); i++) {
                if (Native.capabilityGet(i, row) != Native.OK) {
                    throw new IllegalArgumentException(Native.lastError());
                }
                rows.add(new Capability(
                        Kernel.values()[row.kernel()],
                        row.cuda() != 0,
                        DType.values()[row.dtype()],
                        row.maxHeadDim(),
                        row.maxValueDim(),
                        row.forward() != 0,
                        row.backward() != 0,
                        row.unequalDims() != 0,
                        row.forwardDim(),
                        row.latent() != 0,
                        (row.scores() & Native.SOFTCAP) != 0,
                        (row.scores() & Native.SINKS) != 0,
                        (row.scores() & Native.ALIBI) != 0,
                        row.available() != 0,
                        row.name(),
                        row.requirement(),
                        Native.capabilityCause(i)));
            }
        }
        return List.copyOf(rows);
    }
}
