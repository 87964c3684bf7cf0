/** Who a process is among those started together, and the rendezvous where they prove to belong and compare terms. */
package org.flashring.launch;
