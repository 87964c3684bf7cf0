package org.flashring.cli.train.dense;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Where each block of a rank's memory lies in its one arena, in bytes from the start. Blocks that are never in use in
 * the same phase may share a place.
 */
final class MemoryPlan {
    private static final long ALIGNMENT = 64;

    /**
     * A piece of memory that has a name.
     *
     * @param phases in which what it holds is needed
     */
    record Block(String name, long bytes, Set<Phase> phases) {}

    private record Placed(Block block, long offset) {
        long end() {
            return offset + block.bytes();
        }
    }

    private final Map<String, Placed> places = new LinkedHashMap<>();
    private final Map<String, Long> outside;
    private final long arena;

    /**
     * Places the blocks.
     *
     * @param outside bytes by name that others hold for this rank, all the time
     */
    MemoryPlan(List<Block> blocks, Map<String, Long> outside) {
        this.outside = Collections.unmodifiableMap(new LinkedHashMap<>(outside));
        List<Placed> placed = new ArrayList<>(); // the largest first: small ones then fill gaps
        long end = 0;
        for (Block block : blocks.stream()
                .sorted(Comparator.comparingLong(Block::bytes).reversed())
                .toList()) {
            Placed place = new Placed(block, lowest(block, placed));
            placed.add(place);
            end = Math.max(end, place.end());
        }
        placed.sort(Comparator.comparingLong(Placed::offset));
        placed.forEach(place -> places.put(place.block().name(), place));
        this.arena = aligned(end);
    }

    private static long aligned(long bytes) {
        return Math.addExact(bytes, ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }

    /** Returns the lowest offset at which a block meets none that is in use in one of its phases. */
    private static long lowest(Block block, List<Placed> placed) {
        List<Placed> beside = placed.stream()
                .filter(other -> !Collections.disjoint(other.block().phases(), block.phases()))
                .sorted(Comparator.comparingLong(Placed::offset))
                .toList();
        long offset = 0;
        for (Placed other : beside) {
            if (other.offset() < offset + block.bytes() && offset < other.end()) {
                offset = aligned(other.end());
            }
        }
        return offset;
    }

    /** Returns where everything lies, in the order in which it does: what is outside the arena, as if behind it. */
    List<PlacedBlock> map() {
        List<PlacedBlock> map = new ArrayList<>();
        places.values()
                .forEach(place -> map.add(new PlacedBlock(
                        place.block().name(),
                        place.offset(),
                        place.block().bytes(),
                        place.block().phases())));
        long end = arena;
        for (Map.Entry<String, Long> other : outside.entrySet()) {
            map.add(new PlacedBlock(other.getKey(), end, other.getValue(), EnumSet.allOf(Phase.class)));
            end += other.getValue();
        }
        return map;
    }

    /** Returns the blocks, in the order in which they lie. */
    List<Block> blocks() {
        return places.values().stream().map(Placed::block).toList();
    }

    /** Returns where a block begins. */
    long offset(String name) {
        return places.get(name).offset();
    }

    /** Returns the bytes of the arena. */
    long arena() {
        return arena;
    }

    /** Returns all bytes of the rank, those outside the arena too. */
    long total() {
        return arena + outside.values().stream().mapToLong(Long::longValue).sum();
    }

    /** Returns the bytes of each block, and of what lies outside the arena, by name. */
    Map<String, Long> bytesByName() {
        Map<String, Long> bytes = new LinkedHashMap<>();
        places.values()
                .forEach(place -> bytes.put(place.block().name(), place.block().bytes()));
        bytes.putAll(outside);
        return bytes;
    }

    /** Collects blocks. */
    static final class Builder {
        private final List<Block> blocks = new ArrayList<>();

        /** Adds a block that is needed all the time. */
        Builder always(String name, long bytes) {
            blocks.add(new Block(name, bytes, EnumSet.allOf(Phase.class)));
            return this;
        }

        /** Adds a block that is needed in some phases. */
        Builder during(String name, long bytes, Set<Phase> phases) {
            blocks.add(new Block(name, bytes, phases));
            return this;
        }

        MemoryPlan build(Map<String, Long> outside) {
            return new MemoryPlan(blocks, outside);
        }
    }
}
