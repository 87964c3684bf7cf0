package org.flashring.comm.nccl;

import java.util.ArrayList;
import java.util.List;
import org.flashring.device.CurrentDevice;
import org.flashring.device.DeferredFrees;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.internal.Nccl;

/**
 * Memory of one rank that NCCL knows: peers copy into it and out of it without buffers of NCCL's between. What its users
 * close is kept for the next and goes with the group: to take it from NCCL earlier would wait for the peers.
 */
final class NcclMemory {
    private final class Block {
        private final long address;
        private final long bytes;
        private boolean used = true;

        Block(long address, long bytes) {
            this.address = address;
            this.bytes = bytes;
        }

        void release() {
            synchronized (NcclMemory.this) {
                used = false;
                if (closed) {
                    free();
                }
            }
        }

        private void free() {
            DeferredFrees.free(device, () -> Nccl.free(address));
        }
    }

    private final Device device;
    private final NcclQueue queue;
    private final List<Block> blocks = new ArrayList<>();
    private boolean closed;

    NcclMemory(Device device, NcclQueue queue) {
        this.device = device;
        this.queue = queue;
    }

    /** Returns {@code bytes} bytes, in a block that was closed before if one is at least as large, twice at most. */
    synchronized DeviceBuffer allocate(long bytes) {
        Block best = null;
        for (Block block : blocks) {
            boolean fits = !block.used && block.bytes >= bytes && block.bytes / 2 <= bytes;
            if (fits && (best == null || block.bytes < best.bytes)) {
                best = block;
            }
        }
        if (best == null) {
            best = register(Math.max(bytes, 1));
        }
        best.used = true;
        return DeviceBuffer.adopt(device, best.address, bytes, best::release);
    }

    private Block register(long bytes) {
        int current = CurrentDevice.enter(device);
        try {
            long address = Nccl.allocate(bytes);
            try {
                queue.register(address, bytes);
            } catch (RuntimeException | Error e) {
                Nccl.free(address);
                throw e;
            }
            Block block = new Block(address, bytes);
            blocks.add(block);
            return block;
        } finally {
            CurrentDevice.leave(current);
        }
    }

    /** Frees what is not in use, and the rest when it is closed. NCCL's communicators are ended. */
    synchronized void close() {
        closed = true;
        blocks.stream().filter(block -> !block.used).forEach(Block::free);
    }
}
