/** Ranks that are threads of this JVM, on the host or on CUDA devices: messages are copies. */
package org.flashring.comm.local;
