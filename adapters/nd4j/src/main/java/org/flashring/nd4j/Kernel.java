package org.flashring.nd4j;

import org.flashring.attention.Backward;
import org.flashring.attention.Forward;

/** What computes the output and the gradients of a call. */
interface Kernel {
    void forward(Forward operands);

    void backward(Backward operands);
}
