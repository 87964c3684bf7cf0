/** Groups whose ranks are GPUs and talk through NCCL, each in a thread or a process. */
package org.flashring.comm.nccl;
