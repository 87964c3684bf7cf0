/** The command line: {@code flashring COMMAND}. Not in the library's jar. */
package org.flashring.cli;
