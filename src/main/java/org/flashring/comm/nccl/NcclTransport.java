package org.flashring.comm.nccl;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.bytedeco.cuda.nccl.ncclComm;
import org.flashring.DType;
import org.flashring.comm.Transfers;
import org.flashring.comm.transport.Collective;
import org.flashring.comm.transport.DeviceWork;
import org.flashring.comm.transport.Transport;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Assembly;
import org.flashring.internal.Nccl;

/** A rank of a {@link NcclGroup}. */
final class NcclTransport implements Transport {
    private final NcclWatchdog watchdog;
    private final NcclLocalRanks together;
    private final Device device;
    private final String name; // that its failures begin with
    private final int rank;
    private final int worldSize;
    private final NcclQueue queue;
    private final NcclMemory memory; // null where exchanges go through NCCL's own buffers
    private final DeviceBuffer scratch; // for barriers
    private final DeviceWork[] posted = new DeviceWork[DEPTH];
    private final NcclBatch batchCall = new NcclBatch();
    private final NcclCollective collectiveCall;
    private final NcclCall meeting;
    private int splits;

    NcclTransport(
            NcclWatchdog watchdog,
            NcclLocalRanks together,
            String name,
            Device device,
            List<ncclComm> comms,
            boolean registers) {
        this.watchdog = watchdog;
        this.together = together;
        this.name = name;
        this.device = device;
        this.rank = Nccl.rank(comms.get(0));
        this.worldSize = Nccl.size(comms.get(0));
        queue = new NcclQueue(watchdog, device, name + "rank " + rank, comms);
        memory = registers ? new NcclMemory(device, queue) : null;
        collectiveCall = new NcclCollective(rank, worldSize);
        scratch = DeviceBuffer.allocate(device, 2L * worldSize);
        scratch.fill(0, 0);
        meeting = (comm, stream) -> Nccl.allReduce(scratch.address(), 1, DType.BFLOAT16.code(), comm, stream);
        watchdog.add(queue);
        connect();
    }

    /**
     * Connects every pair of ranks on every channel: NCCL does it at first use, on the host, where no deadline reaches
     * it.
     */
    private void connect() {
        for (int each = 0; each < NcclQueue.CHANNELS; each++) {
            queue.run(
                    "connect",
                    each,
                    (comm, stream) -> NcclCollective.toAll(
                            scratch.address(), 1, scratch.address() + worldSize, worldSize, comm, stream));
        }
        queue.run("connect", 0, meeting);
        queue.synchronize();
    }

    @Override
    public int rank() {
        return rank;
    }

    @Override
    public int worldSize() {
        return worldSize;
    }

    @Override
    public Device device() {
        return device;
    }

    @Override
    public void requireAlive() {
        watchdog.check();
    }

    @Override
    public void at(String phase, int step) {
        queue.at(phase, step);
    }

    @Override
    public void stream(long stream) {
        queue.stream(stream);
    }

    @Override
    public OwnedMemory allocate(long bytes) {
        return memory == null ? OwnedMemory.allocate(device, bytes) : memory.allocate(bytes);
    }

    /** Batches take channels in turn, the same on all ranks as all post in one order. */
    @Override
    public void post(long ticket, Transfers batch) {
        int channel = (int) (ticket % NcclQueue.CHANNELS);
        posted[(int) (ticket % DEPTH)] = queue.issue("exchange", batch, channel, batchCall.of(batch));
    }

    @Override
    public void receive(long ticket, Transfers batch) {
        queue.follow(posted[(int) (ticket % DEPTH)]);
    }

    @Override
    public void release(long ticket, Transfers batch) {
        // the sends of a batch end with its receives
    }

    @Override
    public void collective(Collective collective) {
        queue.run(collective.operation(), 0, collectiveCall.of(collective));
    }

    @Override
    public void barrier() {
        queue.run("barrier", 0, meeting);
        queue.synchronize();
    }

    @Override
    public void synchronize() {
        queue.synchronize();
    }

    @Override
    public void agree(long plan, Map<String, String> terms) {
        watchdog.agree(name, new Assembly.Guest(together.name(), plan, rank, worldSize, terms));
    }

    @Override
    public Transport split(String part, int color, int key) {
        List<ncclComm> parts = new ArrayList<>();
        queue.run(
                "split", 0, (first, stream) -> queue.comms().forEach(comm -> parts.add(Nccl.split(comm, color, key))));
        NcclLocalRanks members = together.part(splits++, color, Nccl.size(parts.get(0)));
        return new NcclTransport(
                watchdog, members, part.isEmpty() ? name : name + part + ": ", device, parts, memory != null);
    }

    @Override
    public void fail(String what, Throwable cause) {
        watchdog.fail(name + "rank " + rank + " " + what, cause, true);
    }

    @Override
    public void close() {
        queue.drain();
        if (!watchdog.awaitEnd() && memory != null && !NcclWatchdog.end(List.of(), memory::deregister)) {
            fail("waited for the others to let go of memory that NCCL knows", null);
        }
        watchdog.leave(together.name(), rank, worldSize);
        watchdog.remove(queue);
        boolean failed = watchdog.awaitEnd();
        together.leave(queue.surrender(), failed, watchdog.deadline().nanos());
        queue.close();
        if (memory != null) {
            memory.close();
        }
        if (!watchdog.hasFailed()) {
            scratch.close(); // waits for the device, which work that cannot be ended may keep busy for ever
        }
    }
}
