/** Ranks on GPUs, as threads or as processes: messages and collectives are NCCL's, watched by deadlines. */
package org.flashring.comm.nccl;
