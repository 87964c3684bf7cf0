package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import org.flashring.internal.CudaIpc;
import org.flashring.internal.Native;

/** What CUDA knows of this process's device memory. */
final class OwnMemory implements Exports.Source {
    private final ByteBuffer answer = Exports.direct(Long.BYTES);
    private final long address = Native.address(answer);

    @Override
    public long base(long of) {
        return CudaIpc.base(of, address) ? answer.getLong(0) : 0;
    }

    @Override
    public long size(long of) {
        CudaIpc.size(of, address);
        return answer.getLong(0);
    }

    @Override
    public long number(long of) {
        CudaIpc.number(of, address);
        return answer.getLong(0);
    }

    @Override
    public boolean export(long base, long handle) {
        return CudaIpc.export(base, handle);
    }
}
