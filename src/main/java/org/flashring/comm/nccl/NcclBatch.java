package org.flashring.comm.nccl;

import org.bytedeco.cuda.nccl.ncclComm;
import org.flashring.comm.Transfers;
import org.flashring.internal.Nccl;

/** A batch of messages; those of zero bytes are none to NCCL. */
final class NcclBatch implements NcclCall {
    private Transfers batch;

    NcclBatch of(Transfers newBatch) {
        batch = newBatch;
        return this;
    }

    @Override
    public void on(ncclComm comm, long stream) {
        Nccl.groupStart();
        for (int i = 0; i < batch.sends(); i++) {
            if (batch.sendBytes(i) > 0) {
                Nccl.send(batch.sendAddress(i), batch.sendBytes(i), batch.to(i), comm, stream);
            }
        }
        for (int i = 0; i < batch.receives(); i++) {
            if (batch.receiveBytes(i) > 0) {
                Nccl.receive(batch.receiveAddress(i), batch.receiveBytes(i), batch.from(i), comm, stream);
            }
        }
        Nccl.groupEnd();
    }
}
