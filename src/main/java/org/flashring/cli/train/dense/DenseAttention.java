package org.flashring.cli.train.dense;

import java.util.ArrayList;
import java.util.List;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.device.Memory;
import org.flashring.device.OwnedMemory;
import org.flashring.plan.Plan;

/** Attention of all layers, on views of a rank's arena: the heads of a group after those of another. */
final class DenseAttention implements AutoCloseable {
    private final ShardedAttention attention;
    private final List<List<Forward>> forward = new ArrayList<>(); // of each slot, the groups
    private final List<List<Backward>> backward = new ArrayList<>();
    private final DenseModel model;
    private final int groups;
    private final long batch;
    private final long length;
    private final DType type;
    private final long stream;

    /**
     * Makes it for the outputs of {@code slots} layers, one of which several may use in turn.
     *
     * @param stream in whose order it works
     */
    DenseAttention(
            DenseSettings settings,
            Plan plan,
            Communicator sequence,
            MemoryPlan memory,
            OwnedMemory arena,
            int slots,
            long stream) {
        this.stream = stream;
        this.model = settings.model();
        this.groups = settings.headGroups();
        this.type = settings.type();
        this.batch = plan.shape().batch();
        this.length = plan.queries().localLength(sequence.rank());
        long tokens = batch * length;
        Memory all = arena.memory();
        long qkvBytes = tokens * model.qkvWidth() * type.bytes();
        boolean keeps = settings.recompute() == Recompute.NONE; // operands of each slot, too
        Memory dqkv = all.slice(memory.offset("dqkv"), qkvBytes);
        Memory dout = all.slice(memory.offset("dout"), tokens * model.queryWidth() * type.bytes());
        long outBytes = tokens * model.queryWidth() * type.bytes();
        long lseBytes = tokens * model.heads() * type.accumulator().bytes();
        for (int slot = 0; slot < slots; slot++) {
            Memory out = all.slice(memory.offset("out") + slot * outBytes, outBytes);
            Memory qkv = all.slice(memory.offset("qkv") + (keeps ? slot * qkvBytes : 0), qkvBytes);
            Memory lse = all.slice(memory.offset("lse") + slot * lseBytes, lseBytes);
            List<Forward> forwardOfSlot = new ArrayList<>();
            List<Backward> backwardOfSlot = new ArrayList<>();
            for (int group = 0; group < groups; group++) {
                Forward operands = new Forward(
                        queries(qkv, group, model.qkvWidth()),
                        keys(qkv, group, 0),
                        keys(qkv, group, 1),
                        queries(out, group, model.queryWidth()),
                        sums(lse, group));
                forwardOfSlot.add(operands);
                backwardOfSlot.add(new Backward(
                        operands,
                        queries(dout, group, model.queryWidth()),
                        queries(dqkv, group, model.qkvWidth()),
                        keys(dqkv, group, 0),
                        keys(dqkv, group, 1)));
            }
            forward.add(forwardOfSlot);
            backward.add(backwardOfSlot);
        }
        this.attention = new ShardedAttention(plan, sequence);
    }

    private Tensor queries(Memory memory, int group, long width) {
        long heads = model.heads() / groups;
        return view(memory, type, group * heads, heads, model.headDim(), width);
    }

    /** Returns the group's heads of keys, or with {@code part} 1 of values. */
    private Tensor keys(Memory memory, int group, int part) {
        long heads = model.kvHeads() / groups;
        return view(
                memory,
                type,
                model.heads() + (long) part * model.kvHeads() + group * heads,
                heads,
                model.headDim(),
                model.qkvWidth());
    }

    private Tensor sums(Memory memory, int group) {
        long heads = model.heads() / groups;
        return view(memory, type.accumulator(), group * heads, heads, 1, model.heads());
    }

    private Tensor view(Memory memory, DType of, long first, long heads, long dim, long width) {
        long skipped = length == 0 ? 0 : first * dim * of.bytes();
        return Tensor.strided(
                memory.slice(skipped, memory.bytes() - skipped),
                of,
                batch,
                length,
                heads,
                dim,
                length * width,
                width,
                dim);
    }

    /** Returns the bytes that it holds beside the arena. */
    long bytesHeld() {
        return attention.bytesHeld();
    }

    /** Computes the outputs of a slot. Collective. */
    void forward(int slot) {
        for (Forward operands : forward.get(slot)) {
            attention.forward(operands, stream);
        }
    }

    /** Computes dqkv, given the outputs of a slot and dout. Collective. */
    void backward(int slot) {
        for (Backward operands : backward.get(slot)) {
            attention.backward(operands, stream);
        }
    }

    @Override
    public void close() {
        attention.close();
    }
}
