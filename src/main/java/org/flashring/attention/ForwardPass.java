package org.flashring.attention;

import org.flashring.attention.BoundStep.BoundBlock;
import org.flashring.internal.Native;
import org.flashring.plan.HeadExchange.Leg;

/** Forward: each block advances the running (O, LSE) of this rank's queries. */
final class ForwardPass extends Pass<Forward> {
    ForwardPass(RankResources own, BoundStep[] steps) {
        super(own, steps);
    }

    @Override
    void check(OperandChecks checks) {
        checks.check(operands);
    }

    @Override
    void prepare() {}

    @Override
    Leg toShares() {
        return Leg.FORWARD_OPERANDS;
    }

    @Override
    void pack(Leg leg) {
        own.heads().pack(leg, own.math(), operands, null);
    }

    @Override
    void unpack(Leg leg) {
        own.heads().unpack(leg, own.math(), operands, null);
    }

    @Override
    void bind() {
        Forward of = stepOperands();
        own.kernel()
                .bindForward(
                        of.q(),
                        of.out(),
                        own.queries().lse(of.lse()),
                        own.queries().state(of.out()),
                        own.queries().lseLow(),
                        operands.sinks(),
                        own.firstHead());
    }

    @Override
    Forward stepOperands() {
        return own.heads() == null ? operands : own.heads().forward();
    }

    @Override
    void compute(BoundBlock block) {
        own.kernel().forward(block.resume(), block.finish());
    }

    @Override
    void deliver(BoundStep step) {} // no gradients travel

    @Override
    void collect(BoundBlock block) {}

    @Override
    void finish() {}

    @Override
    Leg toOwners() {
        return Leg.FORWARD_RESULTS;
    }

    @Override
    int direction() {
        return Native.FORWARD;
    }
}
