/** {@code flashring plan}: bytes held and moved, before anything runs. */
package org.flashring.cli.plan;
