/** {@code flashring verify}: rings and kernels beside the plain formula. */
package org.flashring.cli.verify;
