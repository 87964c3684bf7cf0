package org.flashring.attention;

import org.flashring.Tensor;

/** The operands of the last call as records, which a call with the same tensors uses again: such a call makes no object. */
final class KnownOperands {
    private Forward forward = new Forward(null, null, null, null, null);
    private Backward backward = new Backward(forward, null, null, null, null);

    Forward forward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse) {
        Forward known = forward;
        if (known.q() != q || known.k() != k || known.v() != v || known.out() != out || known.lse() != lse) {
            known = new Forward(q, k, v, out, lse);
            forward = known;
        }
        return known;
    }

    Backward backward(Forward of, Tensor dout, Tensor dq, Tensor dk, Tensor dv) {
        Backward known = backward;
        if (known.of() != of || known.dout() != dout || known.dq() != dq || known.dk() != dk || known.dv() != dv) {
            known = new Backward(of, dout, dq, dk, dv);
            backward = known;
        }
        return known;
    }
}
