package org.flashring.comm.nccl;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import org.flashring.internal.Checks;
import org.flashring.internal.Nccl;

/**
 * How many multiprocessors NCCL's kernels take in a group, and how these lie together. What is left out NCCL chooses.
 * Kernels of ours run beside NCCL's: fewer channels leave them more of the GPU and make an exchange slower.
 *
 * <p>NCCL lets its environment variables override what a program says; {@link #effective} does the same.
 *
 * @param minChannels least channels, each a block of NCCL's kernels; NCCL's {@code minCTAs}
 * @param maxChannels most channels; NCCL's {@code maxCTAs}. Two ranks exchange by fewer: NCCL divides channels among
 *     peers
 * @param clusterSize blocks that the GPU starts together, on neighbouring multiprocessors, from Hopper on; 0 for each
 *     by itself, which NCCL calls its CGA cluster size
 * @param registered whether {@link org.flashring.comm.Communicator#allocate} gives memory that NCCL knows, and peers
 *     copy to and from without buffers of NCCL's between; from NCCL 2.19 on
 */
public record NcclOptions(
        OptionalInt minChannels, OptionalInt maxChannels, OptionalInt clusterSize, boolean registered) {
    /** The most channels that a communicator has. */
    public static final int MOST_CHANNELS = 64;

    /** The most blocks of a cluster. */
    public static final int MOST_CLUSTER = 8;

    private static final int LEAN_CHANNELS = 8;

    private static final String MIN_CHANNELS = "NCCL_MIN_CTAS";
    private static final String MAX_CHANNELS = "NCCL_MAX_CTAS";
    private static final String CLUSTER_SIZE = "NCCL_CGA_CLUSTER_SIZE";

    /** NCCL's variables that say how many channels there are, or how they exchange. */
    private static final List<String> VARIABLES = List.of(
            MIN_CHANNELS,
            MAX_CHANNELS,
            CLUSTER_SIZE,
            "NCCL_MIN_NCHANNELS",
            "NCCL_MAX_NCHANNELS",
            "NCCL_MIN_P2P_NCHANNELS",
            "NCCL_MAX_P2P_NCHANNELS",
            "NCCL_NCHANNELS_PER_PEER",
            "NCCL_P2P_NVL_CHUNKSIZE");

    /**
     * Makes options.
     *
     * @throws IllegalArgumentException unless channels are from 1 to {@value #MOST_CHANNELS}, the least at most the
     *     most, and the cluster size from 0 to {@value #MOST_CLUSTER}
     */
    public NcclOptions {
        require("minChannels", minChannels, 1, MOST_CHANNELS);
        require("maxChannels", maxChannels, 1, MOST_CHANNELS);
        require("clusterSize", clusterSize, 0, MOST_CLUSTER);
        if (minChannels.orElse(1) > maxChannels.orElse(MOST_CHANNELS)) {
            throw Checks.broken(
                    "minChannels", minChannels.getAsInt(), "be at most maxChannels, " + maxChannels.getAsInt());
        }
    }

    private static void require(String name, OptionalInt value, int least, int most) {
        Checks.notNull(name, value).ifPresent(given -> Checks.between(name, given, least, most));
    }

    /** Returns options that leave all to NCCL. */
    public static NcclOptions defaults() {
        return new NcclOptions(OptionalInt.empty(), OptionalInt.empty(), OptionalInt.empty(), false);
    }

    /** Returns these options with {@code least} to {@code most} channels. */
    public NcclOptions withChannels(int least, int most) {
        return new NcclOptions(OptionalInt.of(least), OptionalInt.of(most), clusterSize, registered);
    }

    /** Returns these options with clusters of {@code blocks} blocks. */
    public NcclOptions withClusterSize(int blocks) {
        return new NcclOptions(minChannels, maxChannels, OptionalInt.of(blocks), registered);
    }

    /** Returns these options with registered memory, or without. */
    public NcclOptions withRegistered(boolean memory) {
        return new NcclOptions(minChannels, maxChannels, clusterSize, memory);
    }

    /**
     * Returns options by which exchanges take little of the GPU: registered memory, {@value #LEAN_CHANNELS} channels
     * and no clusters. What else a group does over NCCL, such as sums, has as few channels.
     */
    public static NcclOptions lean() {
        return defaults()
                .withChannels(LEAN_CHANNELS, LEAN_CHANNELS)
                .withClusterSize(0)
                .withRegistered(true);
    }

    /**
     * Returns what a group has where NCCL finds {@code environment}: variables that are numbers in range count, as far
     * as NCCL heeds them.
     */
    public NcclOptions effective(Map<String, String> environment) {
        OptionalInt cluster = number(environment, CLUSTER_SIZE, 0, MOST_CLUSTER, clusterSize);
        OptionalInt least = number(environment, MIN_CHANNELS, 1, MOST_CHANNELS, minChannels);
        OptionalInt most = number(environment, MAX_CHANNELS, 1, MOST_CHANNELS, maxChannels);
        if (least.isPresent() && most.isPresent() && least.getAsInt() > most.getAsInt()) {
            least = most;
        }
        return new NcclOptions(least, most, cluster, registered);
    }

    /** Returns a variable's value, what is above {@code most} as that; {@code otherwise} if NCCL ignores it. */
    private static OptionalInt number(
            Map<String, String> environment, String name, int least, int most, OptionalInt otherwise) {
        try {
            int value = Integer.decode(environment.getOrDefault(name, "").strip());
            return value < least ? otherwise : OptionalInt.of(Math.min(value, most));
        } catch (NumberFormatException e) {
            return otherwise;
        }
    }

    /** Returns those of NCCL's variables in {@code environment} that count here, by name. */
    static Map<String, String> overrides(Map<String, String> environment) {
        Map<String, String> set = new LinkedHashMap<>();
        for (String name : VARIABLES) {
            if (environment.containsKey(name)) {
                set.put(name, environment.get(name));
            }
        }
        return set;
    }

    /** Returns what ranks compare before they connect. */
    Map<String, String> terms() {
        return Map.of(
                "NCCL channels",
                channels(),
                "NCCL cluster size",
                cluster(),
                "NCCL registered memory",
                String.valueOf(registered));
    }

    /** Returns NCCL's minCTAs, which it wants with maxCTAs or not at all. */
    int minCtas() {
        return minChannels.isEmpty() && maxChannels.isEmpty() ? Nccl.UNDEFINED : minChannels.orElse(1);
    }

    /** Returns NCCL's maxCTAs. */
    int maxCtas() {
        return minChannels.isEmpty() && maxChannels.isEmpty() ? Nccl.UNDEFINED : maxChannels.orElse(MOST_CHANNELS);
    }

    private String channels() {
        if (minChannels.isEmpty() && maxChannels.isEmpty()) {
            return "NCCL's choice";
        }
        int least = minChannels.orElse(1);
        int most = maxChannels.orElse(MOST_CHANNELS);
        return least == most ? String.valueOf(most) : least + " to " + most;
    }

    private String cluster() {
        return clusterSize.isPresent() ? String.valueOf(clusterSize.getAsInt()) : "NCCL's choice";
    }

    /** Returns these options in words, such as "channels: 1 to 8, cluster size: NCCL's choice". */
    @Override
    public String toString() {
        return "channels: " + channels() + ", cluster size: " + cluster() + (registered ? ", registered memory" : "");
    }
}
