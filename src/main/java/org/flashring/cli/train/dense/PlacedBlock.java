package org.flashring.cli.train.dense;

import java.util.Set;

/**
 * A piece of a rank's memory that has a name.
 *
 * @param offset in bytes
 * @param phases in which what it holds is needed
 */
public record PlacedBlock(String name, long offset, long bytes, Set<Phase> phases) {}
