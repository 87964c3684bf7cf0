/** Devices, streams, events, and memory with its owners. CUDA is asked for here: {@link org.flashring.device.Cuda}. */
package org.flashring.device;
