package org.flashring.comm.nccl;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.flashring.device.CurrentDevice;
import org.flashring.device.DeferredFrees;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.internal.Cudart;
import org.flashring.internal.Nccl;

/**
 * Memory of one rank that NCCL knows: peers copy into it and out of it without buffers of NCCL's between. What its
 * users close is kept for the next, as to take it from NCCL waits for the peers, and goes with the group.
 *
 * <p>NCCL does not take memory from the peers when a communicator ends, only when it is told before, which a group that
 * has failed cannot be: CUDA would never give it back. Such memory stays with this process, for later groups.
 */
final class NcclMemory {
    /** What peers of groups that are gone may still have open. */
    private static final Map<Device, List<Piece>> SPARE = new HashMap<>();

    private record Piece(long address, long bytes) {
        /** Returns whether this holds {@code wanted} bytes, and not more than twice as many. */
        boolean fits(long wanted) {
            return bytes >= wanted && bytes / 2 <= wanted;
        }
    }

    private final class Block {
        private final Piece piece;
        private volatile long[] registrations; // null once NCCL has let go of it
        private boolean used = true;

        Block(Piece piece, long[] registrations) {
            this.piece = piece;
            this.registrations = registrations;
        }

        /**
         * Gives it to the next, once what the device has been told is done: it may still use the memory. A group that
         * has failed has no next, and its work may never be done.
         */
        void release() {
            DeferredFrees.free(device, () -> {
                if (!queue.hasFailed()) {
                    awaitDevice();
                }
                synchronized (NcclMemory.this) {
                    used = false;
                    if (closed) {
                        free();
                    }
                }
            });
        }

        private void free() {
            Runnable free = registrations == null ? () -> Nccl.free(piece.address()) : () -> spare(device, piece);
            DeferredFrees.free(device, free);
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

    private void awaitDevice() {
        int current = CurrentDevice.enter(device);
        try {
            Cudart.synchronizeDevice();
        } finally {
            CurrentDevice.leave(current);
        }
    }

    private static void spare(Device device, Piece piece) {
        synchronized (SPARE) {
            SPARE.computeIfAbsent(device, key -> new ArrayList<>()).add(piece);
        }
    }

    /** Returns a piece that fits and is nobody's any more; null if there is none. */
    private static Piece spared(Device device, long bytes) {
        synchronized (SPARE) {
            List<Piece> pieces = SPARE.getOrDefault(device, List.of());
            for (Piece piece : pieces) {
                if (piece.fits(bytes)) {
                    pieces.remove(piece);
                    return piece;
                }
            }
            return null;
        }
    }

    /** Returns {@code bytes} bytes: those of a block that has been closed, if one fits. */
    synchronized DeviceBuffer allocate(long bytes) {
        long wanted = Math.max(bytes, 1);
        for (Block block : blocks) {
            if (!block.used && block.piece.fits(wanted)) {
                block.used = true;
                return DeviceBuffer.adopt(device, block.piece.address(), bytes, block::release);
            }
        }
        Block block = register(wanted);
        blocks.add(block);
        return DeviceBuffer.adopt(device, block.piece.address(), bytes, block::release);
    }

    private Block register(long bytes) {
        int current = CurrentDevice.enter(device);
        try {
            Piece spared = spared(device, bytes);
            if (spared != null) {
                Cudart.synchronizeDevice(); // work of a group that has failed may still use it
            }
            Piece piece = spared == null ? new Piece(Nccl.allocate(bytes), bytes) : spared;
            try {
                return new Block(piece, queue.register(piece.address(), piece.bytes()));
            } catch (RuntimeException | Error e) {
                spare(device, piece);
                throw e;
            }
        } finally {
            CurrentDevice.leave(current);
        }
    }

    /**
     * Makes NCCL, and the peers, let go of all of it. The group works, and nothing that uses the memory is under way.
     */
    void deregister() {
        List<Block> all;
        synchronized (this) {
            all = List.copyOf(blocks); // nobody is to wait for the peers with the lock
        }
        int current = CurrentDevice.enter(device);
        try {
            for (Block block : all) {
                if (queue.deregister(block.registrations)) {
                    block.registrations = null;
                }
            }
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
