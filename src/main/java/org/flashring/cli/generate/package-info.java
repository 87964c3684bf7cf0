/** {@code flashring generate}: a trained model continues a prompt. */
package org.flashring.cli.generate;
