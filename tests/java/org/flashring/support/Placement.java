package org.flashring.support;

/** How the tensors of one rank lie in memory. */
public enum Placement {
    /** [batch, length, heads, dim] with nothing in between. */
    DENSE,
    /** [batch, heads, length, dim]. */
    HEADS_FIRST,
    /** [batch, length, heads, dim] with gaps after every head, token and row. */
    PADDED,
    /** q, k and v of a token one after the other in one block, and likewise their gradients. */
    INTERLEAVED
}
