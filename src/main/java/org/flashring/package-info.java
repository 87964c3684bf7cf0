/**
 * What attention is asked for, without doing any: shapes, element types, layouts of a sequence over ranks, masks,
 * tensors as views of memory, and options. Values, checked when they are made; nothing here touches a device.
 */
package org.flashring;
