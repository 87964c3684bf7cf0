/**
 * The shell that all communicators share, and what a transport has to do for it. Not exported: a new transport is
 * written here.
 */
package org.flashring.comm.transport;
