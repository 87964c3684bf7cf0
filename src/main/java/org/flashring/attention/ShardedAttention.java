package org.flashring.attention;

import java.lang.ref.Reference;
import java.util.LinkedHashMap;
import java.util.Map;
import org.flashring.comm.Communicator;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.plan.Plan;

/**
 * Exact attention over a sequence that is sharded over ranks, by whatever strategy its plan has. Outputs and gradients
 * equal those of one device that holds the whole sequence.
 *
 * <p>Every rank makes one from the same plan and calls the same methods in the same order. All buffers are allocated
 * here, in one block of {@link Plan#bytesHeld}; calls allocate nothing. One thread at a time uses it.
 *
 * <p>Making one does not wait for the peers. The first call does, on the host: it compares {@link Plan#terms} over the
 * ranks, and throws on all of them if they differ. Later calls do not compare.
 *
 * <p>On a CUDA device calls return once their work is queued, and the host never waits for it: the work runs in the
 * order of the caller's stream, the communication beside it, joined by events. Calls share the buffers, so give calls
 * on different streams an order among those. {@link Communicator#synchronize()} waits for the work and tells of a peer
 * that failed. Keep the tensors until the work is done: a call keeps their memory reachable only until it returns.
 *
 * <p>Calls on a stream that is captured go into its CUDA graph, which may be replayed on what lies at the same
 * addresses for as long as this object and the tensors are open; make one call before, which loads the kernels. Ranks
 * of a {@code LocalGroup} can be captured together, each on a stream that has joined one capture; over NCCL, and over
 * peer copies between processes, they are refused.
 */
public final class ShardedAttention implements AttentionCalls, AutoCloseable {
    private final Plan plan;
    private final Communicator communicator;
    private final Entrance entrance;
    private final OperandChecks operandChecks;
    private final RankResources own;
    private final ForwardPass forward;
    private final BackwardPass backward;
    private final Posted posted;
    private final StepProgress progress;
    private final StepLoop loop;
    private boolean agreed; // the peers run the same plan

    /**
     * Makes this rank's part of the operation.
     *
     * @throws IllegalArgumentException if an argument is null, or the communicator's world size or kind of device is
     *     not the plan's
     * @throws OutOfMemoryError if the buffers cannot be had
     */
    public ShardedAttention(Plan plan, Communicator communicator) {
        this("ShardedAttention", plan, communicator);
    }

    /** Makes it under the name that its failures give it. */
    ShardedAttention(String name, Plan plan, Communicator communicator) {
        this.plan = Checks.notNull("plan", plan);
        this.communicator = Checks.notNull("communicator", communicator);
        Checks.equal("communicator.worldSize", communicator.worldSize(), plan.worldSize(), "as planned");
        int rank = communicator.rank();
        Device device = communicator.device();
        if (device.isCuda() != plan.options().cuda()) {
            throw Checks.broken(
                    "communicator.device",
                    device,
                    "be " + (plan.options().cuda() ? "a CUDA device" : "the host") + ", as planned");
        }
        this.entrance = new Entrance(name, plan.worldSize() == 1 ? "" : " of rank " + rank, device);
        this.operandChecks = new OperandChecks(plan, rank, device);
        this.own = new RankResources(plan, communicator);
        this.forward = new ForwardPass(own, own.forward());
        this.backward = new BackwardPass(own, own.backward());
        this.posted = new Posted(communicator);
        this.progress = new StepProgress(communicator, own.heads() == null ? 0 : 1);
        this.loop = new StepLoop(own.heads(), posted, progress);
    }

    /** Returns the plan. */
    public Plan plan() {
        return plan;
    }

    /** Returns the bytes that this object holds outside the Java heap; equals {@link Plan#bytesHeld} of its rank. */
    public long bytesHeld() {
        return own.bytes();
    }

    /**
     * Computes {@code out} = softmax(scores of q kᵀ under the mask) v and {@code lse}, the natural log of the softmax's
     * denominator, for this rank's queries and everybody's keys. How scores are made the plan's
     * {@linkplain org.flashring.Score score} says; sinks, where it has them, are in the denominator.
     *
     * @param stream {@code cudaStream_t} of the communicator's device, or 0 for the default stream, the only one of the
     *     host
     * @throws IllegalArgumentException if a tensor does not fit the plan; nothing has then run
     * @throws IllegalStateException after close, or when another thread is inside
     * @throws org.flashring.comm.CommunicationException if a peer fails or its plan is another
     */
    @Override
    public void forward(Forward operands, long stream) {
        run(forward, operands, stream);
    }

    /**
     * Computes the gradients of a loss whose gradient by the output is {@code dout}, given what forward wrote.
     * Gradients are overwritten. That of sinks is of this rank's queries alone ({@link Backward#dsinks}).
     *
     * @param stream as in forward
     * @throws IllegalArgumentException if a tensor does not fit the plan; nothing has then run
     * @throws IllegalStateException after close, when another thread is inside, or if the plan is forwardOnly
     * @throws org.flashring.comm.CommunicationException if a peer fails or its plan is another
     */
    @Override
    public void backward(Backward operands, long stream) {
        run(backward, operands, stream);
    }

    private <T> void run(Pass<T> pass, T operands, long stream) {
        int current = entrance.enter();
        try {
            communicator.stream(stream);
            own.stream(stream);
            pass.begin(operands);
            pass.check(operandChecks);
            agree(pass.phase());
            loop.run(pass);
        } catch (RuntimeException | Error e) {
            posted.abandon(e);
            throw e;
        } finally {
            pass.end();
            progress.leave();
            posted.end();
            entrance.leave(current);
            Reference.reachabilityFence(operands); // kernels know their memory by address alone
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

    /** Frees the buffers. Closing twice is harmless; the communicator stays open. */
    @Override
    public void close() {
        entrance.close(own::close);
    }
}
