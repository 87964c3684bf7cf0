package org.flashring.cli.train.dense;

import java.util.List;
import org.flashring.device.Device;
import org.flashring.device.HostBuffer;

/**
 * What is kept of layers for backward, in the host's memory, but for the layers whose slots of the device they have:
 * the two at work in forward, the last two then, and in backward the one at work and the next. On a GPU copies go on
 * beside the work of the step. Of one thread.
 */
final class OffloadedLayers implements AutoCloseable {
    /** Slots of the device: of the layer at work, and of the one that is being copied. */
    static final int SLOTS = 2;

    /** What is kept of a layer in one block, whose slots lie one after the other. */
    private record Part(long slots, long bytes) {}

    private final Ops ops;
    private final List<Part> parts;
    private final int onHost; // layers, from the first one on
    private final long layerBytes;
    private final Owners owned;
    private final long host;
    private final Beside beside;

    /** Makes it for the blocks of the arena at {@code base}. */
    OffloadedLayers(DenseSettings settings, long tokens, MemoryPlan memory, long base, Device device, Ops ops) {
        this.ops = ops;
        this.onHost = layers(settings);
        this.parts = StepMemory.kept(settings).entrySet().stream()
                .map(block -> new Part(base + memory.offset(block.getKey()), tokens * block.getValue()))
                .toList();
        this.layerBytes = parts.stream().mapToLong(Part::bytes).sum();
        try (Owners made = new Owners()) {
            this.host = device.isCuda()
                    ? made.add(new PinnedBuffer(device, onHost * layerBytes)).address()
                    : made.add(HostBuffer.allocate(onHost * layerBytes)).address();
            this.beside = made.add(new Beside(device, ops.stream(), SLOTS));
            this.owned = made.keep();
        }
    }

    private static int layers(DenseSettings settings) {
        return settings.offload() ? settings.model().layers() - settings.slots() : 0;
    }

    /** Returns the bytes of the host's memory that a rank of {@code tokens} tokens needs. */
    static long bytes(DenseSettings settings, long tokens) {
        long token = StepMemory.kept(settings).values().stream()
                .mapToLong(Long::longValue)
                .sum();
        return layers(settings) * tokens * token;
    }

    /** Lets what comes next, which makes what {@code layer} + 1 begins with, find its slot free. */
    void makeRoom(int layer) {
        beside.join((layer + 1) % SLOTS);
    }

    /** Sends off what is kept of a layer, whose forward has been queued. */
    void send(int layer) {
        if (layer < onHost) {
            beside.fork();
            long at = host + layer * layerBytes;
            for (Part part : parts) {
                ops.download(at, inSlot(part, layer), part.bytes(), beside.stream());
                at += part.bytes();
            }
            beside.mark(layer % SLOTS);
        }
    }

    /** Lets what comes next, the backward of {@code layer}, find there what is kept of it. */
    void await(int layer) {
        if (layer < onHost) {
            beside.join(layer % SLOTS);
        }
    }

    /** Brings back the layer that gets the slot of {@code layer}, whose backward has been queued. */
    void fetch(int layer) {
        int next = layer - SLOTS;
        if (next >= 0) {
            beside.fork();
            long at = host + next * layerBytes;
            for (Part part : parts) {
                ops.upload(inSlot(part, next), at, part.bytes(), beside.stream());
                at += part.bytes();
            }
            beside.mark(next % SLOTS);
        }
    }

    private static long inSlot(Part part, int layer) {
        return part.slots() + layer % SLOTS * part.bytes();
    }

    @Override
    public void close() {
        owned.close();
    }
}
