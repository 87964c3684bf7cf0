package org.flashring.attention;

import org.flashring.plan.HeadExchange.Leg;

/** Runs the steps of a pass: one loop for every strategy, forward and backward. Allocates nothing. */
final class StepLoop {
    private final HeadExchanger heads; // null where each rank keeps its rows
    private final Posted posted;
    private final StepProgress progress;

    StepLoop(HeadExchanger heads, Posted posted, StepProgress progress) {
        this.heads = heads;
        this.posted = posted;
        this.progress = progress;
    }

    /** Sends keys on, or what a step has to send, while those that are here are computed; then awaits the next. */
    void run(Pass<?> pass) {
        pass.prepare();
        exchangeHeads(pass, pass.toShares());
        pass.bind();
        BoundStep previous = null;
        for (BoundStep step : pass.steps()) {
            progress.begin(pass, step);
            pass.ready(step);
            posted.post(step.before());
            long ahead = posted.post(step.ahead());
            if (step.block() != null) {
                pass.meet(step.block());
                progress.computing();
                pass.compute(step.block());
                progress.computed(step.block());
            }
            posted.awaitAllBut(ahead);
            pass.deliver(previous);
            pass.collect(step.block());
            posted.post(step.after());
            progress.end(pass, step);
            previous = step;
        }
        posted.awaitAll();
        pass.deliver(previous);
        pass.finish();
        exchangeHeads(pass, pass.toOwners());
    }

    private void exchangeHeads(Pass<?> pass, Leg leg) {
        if (heads != null) {
            int number = leg.toShares() ? 0 : pass.steps().length + 1;
            progress.begin(pass, number);
            pass.pack(leg);
            posted.post(heads.transfers(leg));
            posted.awaitAll();
            pass.unpack(leg);
            progress.endOfHeads(pass, number, heads.bytesSent(leg));
        }
    }
}
