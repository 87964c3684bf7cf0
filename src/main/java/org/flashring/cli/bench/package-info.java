/** {@code flashring bench}: how fast, beside PyTorch or alone on a GPU. */
package org.flashring.cli.bench;
