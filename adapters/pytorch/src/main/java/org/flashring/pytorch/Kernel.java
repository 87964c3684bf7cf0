package org.flashring.pytorch;

import org.flashring.attention.Backward;
import org.flashring.attention.Forward;

/** What computes a node's output and gradients. */
interface Kernel {
    void forward(Forward operands, long stream);

    void backward(Backward operands, long stream);
}
