/** The one communicator and what it asks of a transport. For this library's transports, not for its users. */
package org.flashring.comm.transport;
