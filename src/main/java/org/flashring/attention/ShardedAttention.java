package org.flashring.attention;

import java.lang.ref.Reference;
import java.util.LinkedHashMap;
import java.util.Map;
import org.flashring.Tensor;
import org.flashring.attention.BoundStep.BlockGrads;
import org.flashring.attention.BoundStep.BoundBlock;
import org.flashring.comm.Communicator;
import org.flashring.comm.Transfers;
import org.flashring.device.Device;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Checks;
import org.flashring.internal.Made;
import org.flashring.internal.Native;
import org.flashring.kernel.StepKernel;
import org.flashring.kernel.TensorMath;
import org.flashring.plan.Footprint;
import org.flashring.plan.HeadExchange.Leg;
import org.flashring.plan.Plan;
import org.flashring.plan.Schedule;

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
    private static final long NOTHING = -1; // in place of a ticket

    private final Plan plan;
    private final Communicator communicator;
    private final int rank;
    private final Entrance entrance;
    private final OperandChecks operandChecks;
    private final OwnedMemory block;
    private final QueryTensors queries;
    private final HeadExchanger heads; // null where each rank keeps its rows
    private final long firstHead; // of the query heads that the steps compute
    private final BoundStep[] forward;
    private final BoundStep[] backward;
    private final StepKernel kernel;
    private final StepKernel ownRows; // for delta: the kernel, but where heads are exchanged
    private final TensorMath math;
    private boolean agreed; // the peers run the same plan
    private boolean posting; // peers may read this rank's memory
    private boolean inStep;

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
        this.rank = communicator.rank();
        Device device = communicator.device();
        if (device.isCuda() != plan.options().cuda()) {
            throw Checks.broken(
                    "communicator.device",
                    device,
                    "be " + (plan.options().cuda() ? "a CUDA device" : "the host") + ", as planned");
        }
        this.entrance = new Entrance(name, plan.worldSize() == 1 ? "" : " of rank " + rank, device);
        this.operandChecks = new OperandChecks(plan, rank, device);
        Schedule schedule = plan.schedule(rank);
        Footprint footprint = plan.footprint(rank, schedule);
        try (Made made = new Made()) {
            this.block = made.add(OwnedMemory.allocate(device, footprint.totalBytes()));
            this.queries = new QueryTensors(
                    schedule.problem(plan.problem()),
                    footprint,
                    schedule.resumes(),
                    schedule.rank(rank),
                    block.address());
            this.heads = schedule.heads() == null
                    ? null
                    : new HeadExchanger(schedule.heads(), plan, footprint, queries.delta(), block.address());
            this.firstHead =
                    schedule.heads() == null ? 0 : schedule.heads().share().firstQuery();
            StepBinder binder = new StepBinder(plan, schedule, footprint, rank, block.address());
            this.forward = binder.forward();
            this.backward = plan.options().backward() ? binder.backward() : null;
            this.kernel = made.add(plan.kernel(rank, schedule));
            this.kernel.workspace(block.address() + footprint.workspace(), footprint.workspaceBytes());
            this.kernel.place(device);
            this.ownRows = heads == null || backward == null ? kernel : made.add(plan.ownRowsKernel(rank));
            if (ownRows != kernel) {
                ownRows.place(device);
            }
            this.math = made.add(new TensorMath(device));
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
        int current = entrance.enter();
        try {
            follow(stream);
            operandChecks.check(operands);
            agree("forward");
            Forward of = heads == null ? operands : heads.forward();
            exchange(Leg.FORWARD_OPERANDS, operands, null);
            kernel.bindForward(
                    of.q(),
                    of.out(),
                    queries.lse(of.lse()),
                    queries.state(of.out()),
                    queries.lseLow(),
                    operands.sinks(),
                    firstHead);
            for (BoundStep step : forward) {
                RingStepEvent event = begin(Native.FORWARD, "forward", number(step));
                Move.all(step.ready(), math, of.k(), of.v());
                post(step.before());
                long ahead = post(step.ahead());
                if (step.block() != null) {
                    meet(step.block(), of);
                    StepRecorder.enter(event);
                    kernel.forward(step.block().resume(), step.block().finish());
                    StepRecorder.leave(event, step.block());
                }
                awaitAllBut(ahead);
                end(event, step, false);
            }
            exchange(Leg.FORWARD_RESULTS, operands, null);
        } catch (RuntimeException | Error e) {
            abandon(e);
            throw e;
        } finally {
            leave(current);
            Reference.reachabilityFence(operands); // kernels know their memory by address alone
        }
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
        int current = entrance.enter();
        try {
            follow(stream);
            operandChecks.check(operands);
            agree("backward");
            Backward with = heads == null ? operands : heads.backward();
            Forward of = with.of();
            Tensor dQuery = queries.queryGrads(with.dq());
            delta(operands);
            exchange(Leg.BACKWARD_OPERANDS, operands.of(), operands);
            kernel.bindBackward(of.q(), of.out(), of.lse(), with.dout(), queries.delta(), dQuery);
            for (BoundStep step : backward) {
                RingStepEvent event = begin(Native.BACKWARD, "backward", number(step));
                Move.all(step.ready(), math, of.k(), of.v());
                post(step.before());
                long ahead = post(step.ahead());
                if (step.block() != null) {
                    meet(step.block(), of);
                    StepRecorder.enter(event);
                    differentiate(step.block(), with);
                    StepRecorder.leave(event, step.block());
                }
                awaitAllBut(ahead);
                deliver(step.number() - 1, with);
                collect(step.block(), with);
                post(step.after());
                end(event, step, true);
            }
            communicator.await();
            deliver(backward.length - 1, with);
            convert(with.dq(), dQuery);
            exchange(Leg.BACKWARD_RESULTS, operands.of(), operands);
        } catch (RuntimeException | Error e) {
            abandon(e);
            throw e;
        } finally {
            leave(current);
            Reference.reachabilityFence(operands);
        }
    }

    /** Sets delta of own queries to rowsum(out * dout), and finds the gradient of sinks through them. */
    private void delta(Backward operands) {
        Forward of = operands.of();
        Tensor delta = heads == null ? queries.delta() : heads.ownDelta();
        ownRows.bindBackward(of.q(), of.out(), of.lse(), operands.dout(), delta, null);
        ownRows.delta(of.sinks(), operands.dsinks());
    }

    /** Exchanges heads with the members of this rank's group; nothing where each rank keeps its rows. */
    private void exchange(Leg leg, Forward of, Backward gradients) {
        if (heads != null) {
            boolean ofBackward = gradients != null;
            int number = leg.toShares() ? 0 : plan.steps() - 1;
            RingStepEvent event =
                    begin(ofBackward ? Native.BACKWARD : Native.FORWARD, ofBackward ? "backward" : "forward", number);
            heads.pack(leg, math, of, gradients);
            post(heads.transfers(leg));
            communicator.await();
            heads.unpack(leg, math, of, gradients);
            StepRecorder.endOfHeads(event, rank, number, ofBackward, heads.bytesSent(leg));
            endRange();
        }
    }

    /** Returns the number of a step among all, an exchange of heads before them included. */
    private int number(BoundStep step) {
        return step.number() + (heads == null ? 0 : 1);
    }

    /** Shows the kernel the keys of a block, and which heads it is to compute. */
    private void meet(BoundBlock block, Forward operands) {
        kernel.heads(block.heads().from(), block.heads().count());
        boolean own = block.keys() == null;
        kernel.meet(
                block.source(),
                own ? operands.k() : block.keys().keys(),
                own ? operands.v() : block.keys().values(),
                own ? block.heads().from() : 0);
    }

    /** Computes a block's gradients, in the caller's tensors where they are all of them and the type allows. */
    private void differentiate(BoundBlock block, Backward operands) {
        BlockGrads grads = block.grads();
        boolean directKeys =
                grads.direct() && operands.dk().dtype() == grads.of().keys().dtype();
        boolean directValues =
                grads.direct() && operands.dv().dtype() == grads.of().values().dtype();
        Tensor dKey = directKeys ? operands.dk() : grads.of().keys();
        Tensor dValue = directValues ? operands.dv() : grads.of().values();
        kernel.backward(dKey, dValue, block.resume());
        if (grads.direct()) {
            convert(operands.dk(), dKey);
            convert(operands.dv(), dValue);
        }
    }

    private void collect(BoundBlock block, Backward operands) {
        if (block != null) {
            Move.all(block.grads().collect(), math, operands.dk(), operands.dv());
        }
    }

    /** Takes home what step {@code number} has posted and others have sent of the gradients of own keys. */
    private void deliver(int number, Backward operands) {
        if (number >= 0) {
            Move.all(backward[number].deliver(), math, operands.dk(), operands.dv());
        }
    }

    private void convert(Tensor gradient, Tensor computed) {
        if (gradient != computed) {
            math.convert(gradient, computed);
        }
    }

    /** Returns the ticket; {@link #NOTHING} if there is nothing to post. */
    private long post(Transfers transfers) {
        if (transfers == null) {
            return NOTHING;
        }
        posting = true;
        return communicator.post(transfers);
    }

    /** Awaits what was posted before {@code ticket}, or everything if that is {@link #NOTHING}. */
    private void awaitAllBut(long ticket) {
        if (ticket == NOTHING) {
            communicator.await();
        } else if (ticket > 0) {
            communicator.await(ticket - 1);
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

    /** Lets the peers know that this rank gives up, and waits until none reads its memory, which may be freed next. */
    private void abandon(Throwable cause) {
        if (posting) {
            communicator.abort(cause);
        }
    }

    private void leave(int current) {
        if (inStep) {
            endRange(); // it failed
        }
        communicator.at(null, 0);
        posting = false;
        entrance.leave(current);
    }

    private RingStepEvent begin(int direction, String phase, int number) {
        RingStepEvent event = StepRecorder.start();
        communicator.at(phase, number);
        Native.rangeBegin(direction, number);
        inStep = true;
        return event;
    }

    private void end(RingStepEvent event, BoundStep step, boolean ofBackward) {
        StepRecorder.end(event, rank, number(step), step, ofBackward);
        endRange();
    }

    private void endRange() {
        Native.rangeEnd();
        inStep = false;
    }

    /** Runs what follows in the order of {@code stream}. */
    private void follow(long stream) {
        communicator.stream(stream);
        kernel.stream(stream);
        ownRows.stream(stream);
        math.stream(stream);
    }

    /** Frees the buffers. Closing twice is harmless; the communicator stays open. */
    @Override
    public void close() {
        entrance.close(() -> {
            math.close();
            if (ownRows != kernel) {
                ownRows.close();
            }
            kernel.close();
            block.close();
        });
    }
}
