package org.flashring.cli.bench;

import java.util.List;
import org.bytedeco.pytorch.Tensor;

/** An implementation under the clock. */
interface Contender {
    /** Computes the output. */
    void forward();

    /** Does what backward needs and is not to be timed. */
    void prepareBackward();

    /** Computes the gradients of q, k and v. */
    void backward();

    /** Returns what the last forward computed. */
    Tensor output();

    /** Returns what the last backward computed: dq, dk, dv. */
    List<Tensor> gradients();
}
