/** {@code flashring train}: a small transformer whose attention is sharded, compared with one rank. */
package org.flashring.cli.train;
