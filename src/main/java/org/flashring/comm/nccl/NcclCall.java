package org.flashring.comm.nccl;

import org.bytedeco.cuda.nccl.ncclComm;

/**
 * What an operation asks of NCCL, on one channel. Calls that are made again and again are kept and set anew: they make
 * no objects.
 */
interface NcclCall {
    void on(ncclComm comm, long stream);
}
