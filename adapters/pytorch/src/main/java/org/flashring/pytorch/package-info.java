/**
 * FlashRing's attention in models of PyTorch's JavaCPP preset: on one device in place of
 * {@code scaled_dot_product_attention}, or over a sequence that is sharded over ranks. Both are nodes of PyTorch's
 * autograd graph, so that {@code loss.backward()} goes through them.
 */
package org.flashring.pytorch;
