package org.flashring.attention;

/** Forward and backward of an attention, whoever computes them: what an adapter calls. */
public interface AttentionCalls {
    /**
     * Computes out and lse.
     *
     * @param stream {@code cudaStream_t} of the operands' device, or 0 for the default stream, the only one of the host
     */
    void forward(Forward operands, long stream);

    /**
     * Computes dq, dk and dv, and dsinks where it is wanted.
     *
     * @param stream as in {@link #forward}
     */
    void backward(Backward operands, long stream);
}
