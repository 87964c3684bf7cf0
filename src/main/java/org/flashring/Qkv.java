package org.flashring;

/**
 * Queries, keys and values that lie in one block of memory, or their gradients. {@link Tensor#qkv} and
 * {@link Tensor#qkvPerHead} make them.
 *
 * @param q [batch, length, heads, dim]
 * @param k [batch, length, kvHeads, dim]
 * @param v as k
 */
public record Qkv(Tensor q, Tensor k, Tensor v) {}
