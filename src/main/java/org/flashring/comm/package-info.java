/** How ranks talk: a communicator's verbs and the batches of messages that it posts. */
package org.flashring.comm;
