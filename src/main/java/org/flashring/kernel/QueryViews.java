package org.flashring.kernel;

import org.flashring.Tensor;
import org.flashring.internal.NativeStructs;

/** The views of a native step that belong to the queries: set once a call, moved when a step computes other heads. */
final class QueryViews {
    private final NativeStructs.TensorView[] ofForward;
    private final NativeStructs.TensorView[] ofBackward;
    private final Tensor[] tensors = new Tensor[6];
    private NativeStructs.TensorView[] views; // of the direction bound last
    private long row; // of the batch, where they begin
    private long head;

    QueryViews(NativeStructs.Step step) {
        ofForward = new NativeStructs.TensorView[] {step.q(), step.out(), step.lse(), step.acc(), step.lseLow()};
        ofBackward =
                new NativeStructs.TensorView[] {step.q(), step.out(), step.lse(), step.dout(), step.delta(), step.dq()};
        views = new NativeStructs.TensorView[0];
    }

    void bindForward(Tensor q, Tensor out, Tensor lse, Tensor state, Tensor lseLow) {
        bind(ofForward, q, out, lse, state, lseLow);
        set(0, 0);
    }

    void bindBackward(Tensor q, Tensor out, Tensor lse, Tensor dout, Tensor delta, Tensor dq) {
        tensors[5] = dq;
        bind(ofBackward, q, out, lse, dout, delta);
        set(0, 0);
    }

    private void bind(
            NativeStructs.TensorView[] direction, Tensor q, Tensor out, Tensor lse, Tensor fourth, Tensor fifth) {
        views = direction;
        tensors[0] = q;
        tensors[1] = out;
        tensors[2] = lse;
        tensors[3] = fourth;
        tensors[4] = fifth;
    }

    /** Lets all views begin at query head {@code first}. */
    void from(long first) {
        if (first != head) {
            set(row, first);
        }
    }

    /** Lets all views begin at a row of the batch. */
    void row(long first) {
        if (first != row) {
            set(first, head);
        }
    }

    private void set(long firstRow, long firstHead) {
        row = firstRow;
        head = firstHead;
        for (int i = 0; i < views.length; i++) {
            if (tensors[i] == null) {
                Views.set(views[i], 0, 0, 0, 0);
            } else {
                Views.set(views[i], tensors[i], row, 0, head);
            }
        }
    }
}
