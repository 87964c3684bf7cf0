/** Groups whose ranks are processes on the GPUs of one host, which copy from each other's memory. */
package org.flashring.comm.peer;
