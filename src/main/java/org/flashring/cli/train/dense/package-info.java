/**
 * Training of a Llama-shaped model by a forward and backward pass written out by hand: no PyTorch, all memory known
 * beforehand. It uses what any program may use of the library.
 */
package org.flashring.cli.train.dense;
