/** {@code flashring info}: what this machine can run, and why not the rest. */
package org.flashring.cli.info;
