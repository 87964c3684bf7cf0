/**
 * FlashRing's attention on ND4J's arrays: forward and backward, on one device or over a sequence that is sharded over
 * ranks. Arrays are read and written where they lie.
 */
package org.flashring.nd4j;
