package org.flashring.cli.verify;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.SplittableRandom;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Score;

/** The cases: a fixed grid of worlds, layouts and masks, whose other sizes take turns, then random ones. */
final class Scenarios {
    private static final int[] WORLDS = {1, 2, 3, 4, 8};
    private static final Layout.Policy[] POLICIES = Layout.Policy.values();
    private static final DType[] TYPES = DType.values();
    private static final int MASKS = 7;
    private static final int[] LENGTHS = {1, 3, 7, 29, 61, 97, 101, 127, 129, 151, 199};
    private static final int[][] HEADS = {{1, 1}, {4, 4}, {4, 2}, {6, 1}}; // queries, keys
    private static final int[] DIMS = {64, 1, 16, 17, 32, 80, 128, 3, 96, 192, 48, 253, 256};

    static final int FIXED = WORLDS.length * POLICIES.length * MASKS;

    private final long seed;
    private final int ranks;

    /** Cases of {@code ranks} ranks each; 0: of as many as each case draws. */
    Scenarios(long seed, int ranks) {
        this.seed = seed;
        this.ranks = ranks;
    }

    /** Returns case {@code index}: the same for the same seed. */
    Scenario scenario(int index) {
        return index < FIXED ? fixed(index) : random(index);
    }

    /** Returns the source of the numbers in the tensors of case {@code index}. */
    Random numbers(int index) {
        return new Random(new SplittableRandom(seed ^ (long) index << 32).nextLong());
    }

    private Scenario fixed(int index) {
        int world = ranks > 0 ? ranks : WORLDS[index / (MASKS * POLICIES.length)];
        Layout.Policy policy = POLICIES[index / MASKS % POLICIES.length];
        int length = LENGTHS[index % LENGTHS.length];
        int[] heads = HEADS[index / TYPES.length % HEADS.length];
        int dim = DIMS[index % DIMS.length];
        DType dtype = TYPES[index % TYPES.length];
        AttentionShape shape = new AttentionShape(
                1 + index / MASKS % 2, heads[0], heads[1], dim, index % 5 == 0 ? Math.min(dim + 3, 256) : dim, dtype);
        long[] documents = {0, 1, 1, 1 + length / 3, length - length / 4, length};
        Mask mask =
                switch (index % MASKS) {
                    case 0 -> Mask.full();
                    case 1 -> Mask.causal();
                    case 2 -> Mask.full().window(length / 4, 0);
                    case 3 -> Mask.full().window(length / 5, length / 7);
                    case 4 -> Mask.causal().documents(documents);
                    case 5 -> Mask.causal().prefix(length / 3);
                    default -> Mask.full().documents(documents).window(length / 3, 1);
                };
        Layout layout =
                mask.documentCount() > 1 ? Layout.of(policy, documents, world) : Layout.of(policy, length, world);
        return new Scenario(
                index,
                shape,
                layout,
                mask,
                Score.standard(),
                AttentionOptions.defaults(),
                index % 2 == 1,
                dtype.accumulator());
    }

    private Scenario random(int index) {
        Random random = new Random(new SplittableRandom(~seed ^ (long) index << 32).nextLong());
        int drawn = random.nextInt(4) == 0 ? 1 + random.nextInt(9) : pick(random, WORLDS);
        int world = ranks > 0 ? ranks : drawn;
        int length = random.nextBoolean() ? pick(random, LENGTHS) : 1 + random.nextInt(200);
        DType dtype = TYPES[random.nextInt(TYPES.length)];
        int kvHeads = 1 + random.nextInt(3);
        int dim = pick(random, DIMS);
        AttentionShape shape = new AttentionShape(
                1 + random.nextInt(2),
                (long) kvHeads * (1 + random.nextInt(3)),
                kvHeads,
                dim,
                random.nextInt(4) == 0 ? pick(random, DIMS) : dim,
                dtype);
        long[] documents = random.nextInt(5) < 2 ? documents(random, length) : null;
        Mask mask = mask(random, length, documents);
        Layout.Policy policy = POLICIES[random.nextInt(POLICIES.length)];
        Layout layout = documents != null && random.nextBoolean()
                ? Layout.of(policy, documents, world)
                : Layout.of(policy, length, world);
        AttentionOptions options =
                random.nextInt(3) == 0 ? AttentionOptions.defaults().withWireDType(dtype) : AttentionOptions.defaults();
        boolean headsFirst = random.nextBoolean();
        DType gradients = random.nextBoolean() ? dtype : dtype.accumulator();
        return new Scenario(
                index,
                shape,
                random.nextInt(5) == 0 ? dealt(random, length, world) : layout,
                mask,
                score(random, (int) shape.queryHeads()),
                options,
                headsFirst,
                gradients);
    }

    /** Returns products scaled and nothing more in two of three cases, else some of softcap, sinks and ALiBi. */
    private static Score score(Random random, int queryHeads) {
        Score score = Score.standard();
        if (random.nextInt(3) > 0) {
            return score;
        }
        int more = 1 + random.nextInt(7);
        score = (more & 1) == 0 ? score : score.withSoftcap(Math.exp(4 * random.nextDouble() - 1));
        score = (more & 2) == 0 ? score : score.withSinks();
        return (more & 4) == 0
                ? score
                : score.withAlibi(random.doubles(queryHeads, -7, 0)
                        .map(exponent -> (float) Math.exp(exponent)) // the same in every type
                        .toArray());
    }

    /** Returns the layout of tokens that are dealt to ranks at random. */
    private static Layout dealt(Random random, int length, int world) {
        List<List<Positions.Range>> ranges = new ArrayList<>();
        for (int rank = 0; rank < world; rank++) {
            ranges.add(new ArrayList<>());
        }
        for (int token = 0; token < length; token++) {
            ranges.get(random.nextInt(world)).add(new Positions.Range(token, 1, 1));
        }
        return Layout.of(ranges.stream().map(Positions::of).toList());
    }

    private static Mask mask(Random random, int length, long[] documents) {
        long left = random.nextInt(3) == 0 ? random.nextInt(length) : -1;
        long right =
                switch (random.nextInt(4)) {
                    case 0 -> -1;
                    case 1 -> random.nextInt(length);
                    default -> 0;
                };
        Mask mask = Mask.full().window(left, right);
        mask = documents == null ? mask : mask.documents(documents);
        if (random.nextInt(5) == 0) {
            long[] prefixes =
                    random.longs(mask.documentCount(), 0, 1 + length / 2).toArray();
            mask = mask.prefix(prefixes);
        }
        return mask;
    }

    /** Returns the offsets of up to 6 documents, empty ones among them. */
    private static long[] documents(Random random, int length) {
        long[] offsets =
                random.longs(2 + random.nextInt(6), 0, length + 1L).sorted().toArray();
        offsets[0] = 0;
        offsets[offsets.length - 1] = length;
        return offsets;
    }

    private static int pick(Random random, int[] values) {
        return values[random.nextInt(values.length)];
    }
}
