/** Groups whose ranks are processes without GPUs: shared memory within a host, sockets between hosts. */
package org.flashring.comm.process;
