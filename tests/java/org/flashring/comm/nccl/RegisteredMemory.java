package org.flashring.comm.nccl;

import static org.bytedeco.cuda.global.nccl.ncclCommDeregister;
import static org.bytedeco.cuda.global.nccl.ncclCommRegister;
import static org.bytedeco.cuda.global.nccl.ncclSuccess;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.cuda.nccl.ncclComm;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerPointer;
import org.flashring.comm.Communicator;
import org.flashring.comm.Transfers;
import org.flashring.comm.transport.TransportCommunicator;
import org.flashring.internal.CudaIpc;
import org.flashring.internal.Native;

/**
 * The allocations that batches lie in, registered with NCCL ({@code ncclCommRegister}), to try what that gains: NCCL
 * then copies from the sender's memory to the receiver's without buffers of its own between. From release 2.24 on it
 * heeds registrations of {@code cudaMalloc}'s memory only where {@code NCCL_LEGACY_CUDA_REGISTER} is 1, and both sides
 * have to register. Close it before the memory is freed.
 */
public final class RegisteredMemory implements AutoCloseable {
    private record Handle(ncclComm comm, Pointer registration) {}

    private final List<ncclComm> comms;
    private final Map<Long, List<Handle>> allocations = new HashMap<>();
    private final ByteBuffer answer = ByteBuffer.allocateDirect(Long.BYTES).order(ByteOrder.nativeOrder());

    /** Makes one of a communicator over NCCL. */
    public RegisteredMemory(Communicator communicator) {
        comms = ((NcclTransport) ((TransportCommunicator) communicator).transport()).comms();
    }

    /** Registers what {@code batch} sends and receives, unless it is. The device is current. */
    public void add(Transfers batch) {
        for (int i = 0; i < batch.sends(); i++) {
            add(batch.sendAddress(i), batch.sendBytes(i));
        }
        for (int i = 0; i < batch.receives(); i++) {
            add(batch.receiveAddress(i), batch.receiveBytes(i));
        }
    }

    private void add(long address, long bytes) {
        if (bytes == 0 || !CudaIpc.base(address, Native.address(answer))) {
            return;
        }
        long base = answer.getLong(0);
        if (!allocations.containsKey(base)) {
            CudaIpc.size(address, Native.address(answer));
            allocations.put(base, register(base, answer.getLong(0)));
        }
    }

    private List<Handle> register(long base, long bytes) {
        List<Handle> handles = new ArrayList<>();
        try (Address memory = new Address(base);
                PointerPointer<Pointer> handle = new PointerPointer<>(1)) {
            for (ncclComm comm : comms) {
                check(ncclCommRegister(comm, memory, bytes, handle), "ncclCommRegister");
                handles.add(new Handle(comm, handle.get(0)));
            }
        }
        return handles;
    }

    @Override
    public void close() {
        for (List<Handle> handles : allocations.values()) {
            for (Handle handle : handles) {
                check(ncclCommDeregister(handle.comm(), handle.registration()), "ncclCommDeregister");
            }
        }
        allocations.clear();
    }

    private static void check(int status, String call) {
        if (status != ncclSuccess) {
            throw new IllegalStateException(call + " failed with " + status);
        }
    }

    private static final class Address extends Pointer {
        Address(long of) {
            address = of;
        }
    }
}
