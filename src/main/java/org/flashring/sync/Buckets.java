package org.flashring.sync;

import java.util.ArrayList;
import java.util.List;
import org.flashring.internal.Checks;

/**
 * How gradients are put together for {@link GradientSync}, in elements: buckets from the last parameter to the first,
 * and the part of each bucket that a rank owns once sums are scattered.
 */
final class Buckets {
    /** Parameters [first, last], packed from element {@code offset} on; one that is alone is not packed. */
    record Bucket(int first, int last, long offset, long elements) {
        boolean isPacked() {
            return first < last;
        }
    }

    private final long[] counts;
    private final int ranks;
    private final List<Bucket> buckets = new ArrayList<>();
    private final int[] bucketOf;
    private final long[] offsets; // of packed parameters
    private final long packed;

    /** Fills buckets of at most {@code most} elements; a parameter of as many has one of its own. */
    Buckets(long[] counts, long most, int ranks) {
        this.counts = counts;
        this.ranks = ranks;
        this.bucketOf = new int[counts.length];
        this.offsets = new long[counts.length];
        long offset = 0;
        int last = counts.length - 1;
        while (last >= 0) {
            int first = last;
            long elements = counts[last];
            while (first > 0 && counts[first - 1] <= most - elements) {
                elements += counts[--first];
            }
            Bucket bucket = new Bucket(first, last, offset, elements);
            for (int i = first; i <= last; i++) {
                bucketOf[i] = buckets.size();
                offsets[i] = offset;
                offset += bucket.isPacked() ? counts[i] : 0;
            }
            buckets.add(bucket);
            last = first - 1;
        }
        packed = offset;
    }

    /** Returns the number of buckets. */
    int size() {
        return buckets.size();
    }

    Bucket get(int bucket) {
        return buckets.get(bucket);
    }

    int bucketOf(int parameter) {
        return bucketOf[parameter];
    }

    /** Returns where a packed parameter begins. */
    long offset(int parameter) {
        return offsets[parameter];
    }

    /** Returns the number of elements that are packed, over all buckets. */
    long packed() {
        return packed;
    }

    /** Returns the elements of a bucket that each rank owns: one behind the other, nearly equal, longer ones first. */
    long[] shares(Bucket bucket) {
        long[] shares = new long[ranks];
        for (int rank = 0; rank < ranks; rank++) {
            shares[rank] = bucket.elements() / ranks + (rank < bucket.elements() % ranks ? 1 : 0);
        }
        return shares;
    }

    /** Returns where a rank's share of a bucket begins. */
    long firstOf(Bucket bucket, int rank) {
        return bucket.elements() / ranks * rank + Math.min(rank, bucket.elements() % ranks);
    }

    /** Returns the pieces of a bucket's parameters that a rank owns, in the order of the parameters. */
    List<GradientSync.Piece> owned(Bucket bucket, int rank) {
        long begin = firstOf(bucket, rank);
        long end = rank + 1 == ranks ? bucket.elements() : firstOf(bucket, rank + 1);
        List<GradientSync.Piece> pieces = new ArrayList<>();
        long start = 0;
        for (int i = bucket.first(); i <= bucket.last(); i++) {
            long from = Math.max(begin, start);
            long to = Math.min(end, Checks.sum("elements", start, counts[i]));
            if (from < to) {
                pieces.add(new GradientSync.Piece(i, from - start, to - from));
            }
            start += counts[i];
        }
        return pieces;
    }
}
