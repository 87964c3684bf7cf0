package org.flashring.attention;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.flashring.Tensor;
import org.flashring.comm.Communicator;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Checks;
import org.flashring.internal.Made;
import org.flashring.internal.Native;
import org.flashring.kernel.StepKernel;
import org.flashring.kernel.TensorMath;
import org.flashring.plan.BufferPlan;
import org.flashring.plan.Plan;

/**
 * Exact attention over a sequence that is sharded over ranks: each rank keeps its queries, keys and values go round the ring
 * (Liu et al. 2023, Ring Attention), and in backward their gradients travel with them. Outputs and gradients equal those of one
 * device that holds the whole sequence.
 *
 * <p>Every rank makes one from the same plan and calls the same methods in the same order. All buffers are allocated here, in
 * one block of {@link Plan#bytesHeld}; calls allocate nothing. One thread at a time uses it.
 *
 * <p>Making one does not wait for the peers. The first call does, on the host: it compares {@link Plan#terms} over the
 * ranks, and throws on all of them if they differ. Later calls do not compare.
 *
 * <p>On a CUDA device calls return once their work is queued, and the host never waits for it: the work runs in the order of
 * the caller's stream, the communication beside it, joined by events. Calls share the buffers, so give calls on different streams
 * an order among those. {@link Communicator#synchronize()} waits for the work and tells of a peer that failed.
 */
public final class RingAttention implements AutoCloseable {
    private final String name;
    private final Plan plan;
    private final Communicator communicator;
    private final int rank;
    private final OperandChecks operands;
    private final Device device;
    private final OwnedMemory block;
    private final RingBuffers buffers;
    private final StepKernel kernel;
    private final TensorMath combiner;
    private final AtomicBoolean busy = new AtomicBoolean();
    private boolean agreed;  // the peers run the same plan
    private boolean posting; // peers may read this rank's memory
    private boolean inStep;
    private boolean closed;

    /**
     * Makes this rank's part of the operation.
     *
     * @throws IllegalArgumentException if an argument is null, or the communicator's world size or kind of device is not the plan's
     * @throws OutOfMemoryError         if the buffers cannot be had
     */
    public RingAttention(Plan plan, Communicator communicator) {
        this("RingAttention", plan, communicator);
    }

    /** Makes it under the name that its failures give it. */
    RingAttention(String name, Plan plan, Communicator communicator) {
        this.name = name;
        this.plan = Checks.notNull("plan", plan);
        this.communicator = Checks.notNull("communicator", communicator);
        Checks.equal("communicator.worldSize", communicator.worldSize(), plan.worldSize(), "as planned");
        this.rank = communicator.rank();
        this.device = communicator.device();
        if (device.isCuda() != plan.options().cuda()) {
            throw Checks.broken("communicator.device", device, "be " + (plan.options().cuda() ? "a CUDA device" : "the host") + ", as planned");
        }
        this.operands = new OperandChecks(plan, rank, device);
        BufferPlan layout = BufferPlan.of(plan, rank);
        try (Made made = new Made()) {
            this.block = made.add(OwnedMemory.allocate(device, layout.totalBytes()));
            this.buffers = new RingBuffers(plan, rank, layout, block.address());
            this.kernel = made.add(plan.kernel(rank));
            this.kernel.workspace(block.address() + layout.workspace(), layout.totalBytes() - layout.workspace());
            this.kernel.place(device);
            this.combiner = made.add(new TensorMath(device));
            made.keep();
        }
    }

    /** Returns the plan. */
    public Plan plan() {
        return plan;
    }

    /** Returns the bytes that this object holds outside the Java heap; equals {@link Plan#bytesHeld} of its rank. */
    public long bytesHeld() {
        return block.bytes();
    }

    /**
     * Computes {@code out} = softmax(scale · q kᵀ under the mask) v and {@code lse}, the natural log of the softmax's
     * denominator, for this rank's queries and everybody's keys.
     *
     * @param q   [batch, local queries, queryHeads, headDim]
     * @param k   [batch, local keys, kvHeads, headDim]
     * @param v   [batch, local keys, kvHeads, valueDim]
     * @param out [batch, local queries, queryHeads, valueDim], written; 0 where a query sees no key
     * @param lse [batch, local queries, queryHeads, 1] of the accumulator type, written; -∞ where a query sees no key
     * @throws IllegalArgumentException                        if a tensor does not fit the plan; nothing has then run
     * @throws IllegalStateException                           after close, or when another thread is inside
     * @throws org.flashring.comm.CommunicationException if a peer fails or its plan is another
     */
    public void forward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse) {
        forward(q, k, v, out, lse, 0);
    }

    /**
     * As {@link #forward(Tensor, Tensor, Tensor, Tensor, Tensor)}, in the order of a stream.
     *
     * @param stream {@code cudaStream_t} of the communicator's device, or 0 for the default stream, the only one of the host
     */
    public void forward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, long stream) {
        int current = enter();
        try {
            follow(stream);
            operands.checkForward(q, k, v, out, lse);
            agree("forward");
            int last = plan.lastComputed(rank);
            Tensor state = buffers.state(out, last > 0);
            Tensor lseLow = buffers.lseLow(last > 0);
            packKeys(k, v);
            for (int step = 0; step < plan.steps(); step++) {
                RingStepEvent event = StepRecorder.start();
                beginStep(Native.FORWARD, "forward", step);
                boolean computes = plan.computes(rank, step);
                postKeys(step);
                if (computes) {
                    kernel.forward(plan.source(rank, step), q, buffers.key(step, k), buffers.value(step, v), state, out, lse,
                            lseLow, step > 0, step == last);
                }
                communicator.await();
                StepRecorder.end(event, rank, step, plan.source(rank, step), false, computes);
                endStep();
            }
        } catch (RuntimeException | Error e) {
            abandon(e);
            throw e;
        } finally {
            leave(current);
        }
    }

    /**
     * Computes the gradients {@code dq}, {@code dk} and {@code dv} of a loss whose gradient by the output is {@code dout}, given
     * what forward wrote. Gradients are overwritten. They have the tensors' own type or the accumulator type.
     *
     * @param q    as in forward
     * @param k    as in forward
     * @param v    as in forward
     * @param out  as forward wrote it
     * @param lse  as forward wrote it
     * @param dout as out
     * @param dq   as q, written; 0 where a query sees no key
     * @param dk   as k, written
     * @param dv   as v, written
     * @throws IllegalArgumentException                        if a tensor does not fit the plan; nothing has then run
     * @throws IllegalStateException                           after close, when another thread is inside, or if the plan is
     *                                                         forwardOnly
     * @throws org.flashring.comm.CommunicationException if a peer fails or its plan is another
     */
    public void backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor dout, Tensor dq, Tensor dk, Tensor dv) {
        backward(q, k, v, out, lse, dout, dq, dk, dv, 0);
    }

    /**
     * As {@link #backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)}, in the order of a stream.
     *
     * @param stream as in forward
     */
    public void backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor dout, Tensor dq, Tensor dk, Tensor dv,
            long stream) {
        int current = enter();
        try {
            follow(stream);
            operands.checkBackward(q, k, v, out, lse, dout, dq, dk, dv);
            agree("backward");
            kernel.delta(out, dout, buffers.delta());
            Tensor dQuery = buffers.queryGrad(dq);
            packKeys(k, v);
            boolean ring = plan.steps() > 1;
            for (int step = 0; step < plan.steps(); step++) {
                RingStepEvent event = StepRecorder.start();
                beginStep(Native.BACKWARD, "backward", step);
                boolean computes = plan.computes(rank, step);
                postKeys(step);
                Tensor dKey = ring ? buffers.keyGrad(step) : buffers.wholeGrad(dk, buffers.keyGrad(step));
                Tensor dValue = ring ? buffers.valueGrad(step) : buffers.wholeGrad(dv, buffers.valueGrad(step));
                if (computes) {
                    kernel.backward(plan.source(rank, step), q, buffers.key(step, k), buffers.value(step, v), lse, dout, buffers.delta(),
                            dQuery, dKey, dValue, step > 0);
                }
                communicator.await();
                if (ring) {
                    passGradients(step, computes);
                } else {
                    deliver(dk, dKey);
                    deliver(dv, dValue);
                }
                StepRecorder.end(event, rank, step, plan.source(rank, step), true, computes);
                endStep();
            }
            if (ring) {
                communicator.await();
                combiner.convert(dk, buffers.homeKeyGrad());
                combiner.convert(dv, buffers.homeValueGrad());
            }
            deliver(dq, dQuery);
        } catch (RuntimeException | Error e) {
            abandon(e);
            throw e;
        } finally {
            leave(current);
        }
    }

    /**
     * Makes sure, before the first call, that all ranks are about to run the same. Not in the constructor: ranks may
     * make their operations early or late, but all come to an operation's first call.
     */
    private void agree(String call) {
        if (!agreed) {
            if (plan.worldSize() > 1) {
                Map<String, String> terms = new LinkedHashMap<>(plan.terms());
                terms.put("first call", call);
                communicator.agree(terms);
            }
            agreed = true;
        }
    }

    /** Puts this rank's keys and values into the slot that goes round. */
    private void packKeys(Tensor k, Tensor v) {
        if (plan.steps() > 1) {
            combiner.convert(buffers.slotKey(0), k);
            combiner.convert(buffers.slotValue(0), v);
        }
    }

    /** Posts the exchange of the keys of {@code step} for those of the next one. */
    private void postKeys(int step) {
        if (step + 1 < plan.steps()) {
            posting = true;
            communicator.post(buffers.slot(step), plan.keyValueBytes(plan.source(rank, step)), neighbour(1),
                    buffers.slot(step + 1), plan.keyValueBytes(plan.source(rank, step + 1)), neighbour(-1));
        }
    }

    /** Adds this step's dK and dV to those that arrived, and posts them to the next rank, or home after the last step. */
    private void passGradients(int step, boolean computed) {
        if (step == 0) {
            combiner.convert(buffers.wireKeyGrad(step), buffers.keyGrad(step));
            combiner.convert(buffers.wireValueGrad(step), buffers.valueGrad(step));
        } else if (computed) {
            combiner.sum(buffers.wireKeyGrad(step), buffers.keyGrad(step), buffers.wireKeyGrad(step));
            combiner.sum(buffers.wireValueGrad(step), buffers.valueGrad(step), buffers.wireValueGrad(step));
        }
        boolean home = step + 1 == plan.steps();
        communicator.post(buffers.wire(step), plan.wireBytes(plan.source(rank, step)), home ? plan.source(rank, step) : neighbour(1),
                buffers.wire(step + 1), home ? plan.wireBytes(rank) : plan.wireBytes(plan.source(rank, step + 1)),
                home ? neighbour(step) : neighbour(-1));
    }

    /** Lets the peers know that this rank gives up, and waits until none reads its memory, which may be freed next. */
    private void abandon(Throwable cause) {
        if (posting) {
            communicator.abort(cause);
        }
    }

    private int neighbour(int distance) {
        return Math.floorMod(rank + distance, plan.worldSize());
    }

    private void deliver(Tensor gradient, Tensor computed) {
        if (gradient != computed) {
            combiner.convert(gradient, computed);
        }
    }

    /** Makes this thread the one inside, and the device its current one. Returns what {@link #leave} wants. */
    private int enter() {
        if (!busy.compareAndSet(false, true)) {
            throw new IllegalStateException("another thread is inside this " + name + "; each thread needs its own");
        }
        try {
            if (closed) {
                throw new IllegalStateException("the " + name + (plan.worldSize() == 1 ? "" : " of rank " + rank) + " is closed");
            }
            return CurrentDevice.enter(device);
        } catch (RuntimeException | Error e) {
            busy.set(false);
            throw e;
        }
    }

    private void leave(int current) {
        if (inStep) {
            endStep(); // it failed
        }
        communicator.at(null, 0);
        CurrentDevice.leave(current);
        posting = false;
        busy.set(false);
    }

    private void beginStep(int direction, String phase, int step) {
        communicator.at(phase, step);
        Native.rangeBegin(direction, step);
        inStep = true;
    }

    private void endStep() {
        Native.rangeEnd();
        inStep = false;
    }

    /** Runs what follows in the order of {@code stream}. */
    private void follow(long stream) {
        communicator.stream(stream);
        kernel.stream(stream);
        combiner.stream(stream);
    }

    /** Frees the buffers. Closing twice is harmless; the communicator stays open. */
    @Override
    public void close() {
        if (!busy.compareAndSet(false, true)) {
            throw new IllegalStateException("another thread is inside this " + name + "; it cannot be closed yet");
        }
        if (!closed) {
            closed = true;
            combiner.close();
            kernel.close();
            block.close();
        }
        busy.set(false);
    }
}
