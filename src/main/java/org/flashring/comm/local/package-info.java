/** Groups whose ranks are threads of one JVM and copy from each other's memory, on the host or between GPUs. */
package org.flashring.comm.local;
