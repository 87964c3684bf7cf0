/**
 * FlashRing's attention in models of DJL with its PyTorch engine: on one device, as a block, or over a sequence that is
 * sharded over ranks. All are nodes of PyTorch's autograd graph, so that {@code collector.backward(loss)} goes through
 * them.
 */
package org.flashring.djl;
