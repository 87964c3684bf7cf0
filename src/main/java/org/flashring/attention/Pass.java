package org.flashring.attention;

import org.flashring.Tensor;
import org.flashring.attention.BoundStep.BoundBlock;
import org.flashring.internal.Native;
import org.flashring.plan.HeadExchange.Leg;

/**
 * One direction of an attention on one rank: what {@link StepLoop} does with the operands of a call, in the order of
 * these methods.
 *
 * @param <T> the operands
 */
abstract sealed class Pass<T> permits ForwardPass, BackwardPass {
    final RankResources own;
    private final BoundStep[] steps;
    T operands; // of the call under way

    Pass(RankResources own, BoundStep[] steps) {
        this.own = own;
        this.steps = steps;
    }

    /** Takes the operands of a call. */
    final void begin(T given) {
        operands = given;
    }

    /** Lets go of the operands. */
    void end() {
        operands = null;
    }

    /** Throws unless the operands fit the plan. */
    abstract void check(OperandChecks checks);

    /** Computes what needs rows that no exchange of heads has touched. */
    abstract void prepare();

    /** Returns which exchange of heads brings operands to the ranks that compute them. */
    abstract Leg toShares();

    /** Readies what an exchange of heads sends. */
    abstract void pack(Leg leg);

    /** Puts what an exchange of heads has brought into its place. */
    abstract void unpack(Leg leg);

    /** Hands the kernel what does not change from step to step. */
    abstract void bind();

    final BoundStep[] steps() {
        return steps;
    }

    /** Packs own keys that the step sends, and puts keys of several ranks in order. */
    final void ready(BoundStep step) {
        Move.all(step.ready(), own.math(), stepOperands().k(), stepOperands().v());
    }

    /** Shows the kernel the keys of a block, and which heads it is to compute. */
    final void meet(BoundBlock block) {
        boolean ofCaller = block.keys() == null;
        Tensor keys = ofCaller ? stepOperands().k() : block.keys().keys();
        Tensor values = ofCaller ? stepOperands().v() : block.keys().values();
        own.kernel().heads(block.heads().from(), block.heads().count());
        own.kernel().meet(block.source(), keys, values, ofCaller ? block.heads().from() : 0);
    }

    /** Returns what the steps compute with: the caller's own, or what an exchange of heads has brought. */
    abstract Forward stepOperands();

    abstract void compute(BoundBlock block);

    /** Takes home what {@code step} posted and others have sent of own keys' gradients; null for no step. */
    abstract void deliver(BoundStep step);

    /** Takes the gradients of a block to their places; null for no block. */
    abstract void collect(BoundBlock block);

    /** Finishes the results of the steps. */
    abstract void finish();

    /** Returns which exchange of heads takes results to the ranks that own their rows. */
    abstract Leg toOwners();

    /** Returns the native number of the direction. */
    abstract int direction();

    final boolean isBackward() {
        return direction() == Native.BACKWARD;
    }

    /** Returns the direction's name in messages. */
    final String phase() {
        return isBackward() ? "backward" : "forward";
    }
}
