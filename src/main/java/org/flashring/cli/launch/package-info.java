/** {@code flashring launch}: one process for each rank. */
package org.flashring.cli.launch;
