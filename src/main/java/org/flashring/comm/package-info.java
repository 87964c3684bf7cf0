/**
 * What ranks say to each other: messages, collectives, agreement on terms, deadlines and failures. The ways to have
 * ranks are in {@link org.flashring.comm.local} and {@link org.flashring.comm.nccl}.
 */
package org.flashring.comm;
