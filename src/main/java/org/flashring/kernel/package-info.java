/** One native step on one device, and the table of what each kernel serves: {@link org.flashring.kernel.Capability}. */
package org.flashring.kernel;
