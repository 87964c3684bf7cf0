package org.flashring.kernel;

import org.flashring.Tensor;
import org.flashring.internal.Native;

/** The views of a native step that belong to the queries: set once a call, moved when a step computes other heads. */
final class QueryViews {
    private static final int Q = 0;
    private static final int OUT = 1;
    private static final int LSE = 2;
    private static final int STATE = 3;
    private static final int LSE_LOW = 4;
    private static final int DOUT = 5;
    private static final int DELTA = 6;
    private static final int DQ = 7;

    private final Native.TensorView[] views;
    private final Tensor[] tensors;

    QueryViews(Native.Step step) {
        views = new Native.TensorView[] {step.q(), step.out(), step.lse(), step.acc(), step.lseLow(), step.dout(), step.delta(), step.dq()};
        tensors = new Tensor[views.length];
    }

    void bindForward(Tensor q, Tensor out, Tensor lse, Tensor state, Tensor lseLow) {
        bind(q, out, lse);
        tensors[STATE] = state;
        tensors[LSE_LOW] = lseLow;
        tensors[DOUT] = null;
        tensors[DELTA] = null;
        tensors[DQ] = null;
    }

    void bindBackward(Tensor q, Tensor out, Tensor lse, Tensor dout, Tensor delta, Tensor dq) {
        bind(q, out, lse);
        tensors[STATE] = null;
        tensors[LSE_LOW] = null;
        tensors[DOUT] = dout;
        tensors[DELTA] = delta;
        tensors[DQ] = dq;
    }

    private void bind(Tensor q, Tensor out, Tensor lse) {
        tensors[Q] = q;
        tensors[OUT] = out;
        tensors[LSE] = lse;
    }

    /** Sets all views from query head {@code head} on. */
    void from(long head) {
        for (int i = 0; i < views.length; i++) {
            if (tensors[i] == null) {
                Views.set(views[i], 0, 0, 0, 0);
            } else {
                Views.set(views[i], tensors[i], 0, head);
            }
        }
    }
}
