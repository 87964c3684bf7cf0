package org.flashring.attention;

import org.flashring.Tensor;
import org.flashring.attention.BoundStep.BlockGrads;
import org.flashring.attention.BoundStep.BoundBlock;
import org.flashring.internal.Native;
import org.flashring.plan.HeadExchange.Leg;

/** Backward: dQ gathers where its queries are, dK and dV of each block go to the rank whose keys they belong to. */
final class BackwardPass extends Pass<Backward> {
    private Backward with; // what the steps compute with
    private Tensor dQuery; // where dQ gathers

    BackwardPass(RankResources own, BoundStep[] steps) {
        super(own, steps);
    }

    @Override
    void end() {
        super.end();
        with = null;
        dQuery = null;
    }

    @Override
    void check(OperandChecks checks) {
        checks.check(operands);
    }

    /** Sets delta of own queries to rowsum(out * dout), and finds the gradient of sinks through them. */
    @Override
    void prepare() {
        Forward of = operands.of();
        Tensor delta = own.heads() == null ? own.queries().delta() : own.heads().ownDelta();
        own.ownRows().bindBackward(of.q(), of.out(), of.lse(), operands.dout(), delta, null);
        own.ownRows().delta(of.sinks(), operands.dsinks());
    }

    @Override
    Leg toShares() {
        return Leg.BACKWARD_OPERANDS;
    }

    @Override
    void pack(Leg leg) {
        own.heads().pack(leg, own.math(), operands.of(), operands);
    }

    @Override
    void unpack(Leg leg) {
        own.heads().unpack(leg, own.math(), operands.of(), operands);
    }

    @Override
    void bind() {
        with = own.heads() == null ? operands : own.heads().backward();
        dQuery = own.queries().queryGrads(with.dq());
        Forward of = with.of();
        own.kernel()
                .bindBackward(
                        of.q(), of.out(), of.lse(), with.dout(), own.queries().delta(), dQuery);
    }

    @Override
    Forward stepOperands() {
        return with.of();
    }

    /** Computes a block's gradients, in the caller's tensors where they are all of them and the type allows. */
    @Override
    void compute(BoundBlock block) {
        BlockGrads grads = block.grads();
        boolean directKeys =
                grads.direct() && with.dk().dtype() == grads.of().keys().dtype();
        boolean directValues =
                grads.direct() && with.dv().dtype() == grads.of().values().dtype();
        Tensor dKey = directKeys ? with.dk() : grads.of().keys();
        Tensor dValue = directValues ? with.dv() : grads.of().values();
        own.kernel().backward(dKey, dValue, block.resume());
        if (grads.direct()) {
            convert(with.dk(), dKey);
            convert(with.dv(), dValue);
        }
    }

    @Override
    void deliver(BoundStep step) {
        if (step != null) {
            Move.all(step.deliver(), own.math(), with.dk(), with.dv());
        }
    }

    @Override
    void collect(BoundBlock block) {
        if (block != null) {
            Move.all(block.grads().collect(), own.math(), with.dk(), with.dv());
        }
    }

    @Override
    void finish() {
        convert(with.dq(), dQuery);
    }

    private void convert(Tensor gradient, Tensor computed) {
        if (gradient != computed) {
            own.math().convert(gradient, computed);
        }
    }

    @Override
    Leg toOwners() {
        return Leg.BACKWARD_RESULTS;
    }

    @Override
    int direction() {
        return Native.BACKWARD;
    }
}
