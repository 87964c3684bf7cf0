package org.flashring.support;

import java.util.ArrayList;
import java.util.List;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.kernel.Capability;

/** Which kernels this machine can run. */
public final class Kernels {
    private Kernels() {}

    /** Returns the host kernels that serve {@code dtype} here, forward and backward, the choice of AUTO first. */
    public static List<Kernel> available(DType dtype) {
        List<Kernel> kernels = new ArrayList<>();
        kernels.add(Kernel.AUTO);
        for (Capability row : Capability.all()) {
            if (row.available() && row.backward() && !row.cuda() && row.dtype() == dtype) {
                kernels.add(row.kernel());
            }
        }
        return kernels;
    }
}
