/**
 * What executes a plan: {@link org.flashring.attention.RingAttention} over the ranks of a communicator,
 * {@link org.flashring.attention.FlashAttention} on one device. Operations own their buffers and are closed; calls
 * allocate nothing.
 */
package org.flashring.attention;
