package org.flashring.serve;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.support.DeviceCopies;
import org.flashring.support.TestTensor;

/**
 * Steps of random tokens on a cache, of which each output is compared with the formula in float64 over all tokens so
 * far, one pair at a time.
 */
final class Decoding implements AutoCloseable {
    private final CachePlan plan;
    private final AttentionShape shape;
    private final Device device;
    private final DeviceCopies constants;
    private final Random random;
    private final double[] sinks; // of each head; null for none
    private final List<List<List<double[]>>> keys = new ArrayList<>(); // of each layer and row
    private final List<List<List<double[]>>> values = new ArrayList<>();
    private final List<Double> results = new ArrayList<>();

    Decoding(CachePlan plan, long seed) {
        this(plan, seed, Device.HOST);
    }

    /** On a device, in its default stream. To be closed there. */
    Decoding(CachePlan plan, long seed, Device device) {
        this.device = device;
        this.constants = new DeviceCopies(device);
        this.plan = plan;
        this.shape = plan.shape();
        this.random = new Random(seed);
        this.sinks = plan.score().sinks()
                ? random.doubles(shape.queryHeads(), -1, 2).map(x -> (float) x).toArray()
                : null;
        for (int layer = 0; layer < plan.layers(); layer++) {
            keys.add(new ArrayList<>());
            values.add(new ArrayList<>());
            for (int row = 0; row < shape.batch(); row++) {
                keys.get(layer).add(new ArrayList<>());
                values.get(layer).add(new ArrayList<>());
            }
        }
    }

    /** Returns all outputs and lse so far. */
    List<Double> results() {
        return results;
    }

    /** Gives the cache what its score and its type ask for. */
    void begin(Cache cache) {
        for (int layer = 0; plan.type() == CacheType.FLOAT8_E4M3 && layer < plan.layers(); layer++) {
            TestTensor scales = TestTensor.dense(DType.FLOAT32, 1, 1, shape.kvHeads(), 1);
            for (int head = 0; head < shape.kvHeads(); head++) {
                scales.put(0, 0, head, 0, scale(head));
            }
            cache.scales(layer, constants.tensor(scales), constants.tensor(scales));
        }
        for (int layer = 0; sinks != null && layer < plan.layers(); layer++) {
            TestTensor tensor = TestTensor.dense(shape.dtype().accumulator(), 1, 1, shape.queryHeads(), 1);
            for (int head = 0; head < sinks.length; head++) {
                tensor.put(0, 0, head, 0, sinks[head]);
            }
            cache.sinks(layer, constants.tensor(tensor));
        }
    }

    void forget(Cache cache, int row) {
        cache.release(row, 0);
        for (int layer = 0; layer < plan.layers(); layer++) {
            keys.get(layer).get(row).clear();
            values.get(layer).get(row).clear();
        }
    }

    /** Takes a step of {@code tokens} tokens a row, or of as many as {@code counts} says. */
    void step(Cache cache, int tokens, int... counts) {
        cache.newLengths(counts);
        for (int layer = 0; layer < plan.layers(); layer++) {
            TestTensor q = drawn(tokens, shape.queryHeads(), shape.headDim());
            TestTensor k = cached(drawn(tokens, shape.kvHeads(), shape.headDim()));
            TestTensor v = cached(drawn(tokens, shape.kvHeads(), shape.valueDim()));
            TestTensor out =
                    TestTensor.padded(shape.dtype(), shape.batch(), tokens, shape.queryHeads(), shape.valueDim(), 3);
            TestTensor lse =
                    TestTensor.headsFirst(shape.dtype().accumulator(), shape.batch(), tokens, shape.queryHeads(), 1);
            try (DeviceCopies copies = new DeviceCopies(device)) {
                cache.append(layer, copies.tensor(k), copies.tensor(v));
                cache.forward(layer, copies.tensor(q), copies.tensor(out), copies.tensor(lse), 0);
                copies.download();
            }
            for (int row = 0; row < shape.batch(); row++) {
                int fresh = counts.length == 0 ? tokens : counts[row];
                remember(keys.get(layer).get(row), k, row, fresh);
                remember(values.get(layer).get(row), v, row, fresh);
                for (int token = 0; token < tokens; token++) {
                    for (int head = 0; head < shape.queryHeads(); head++) {
                        compare(layer, row, token, fresh, head, q, out, lse);
                    }
                }
            }
        }
        cache.advance();
    }

    @Override
    public void close() {
        constants.close();
    }

    private TestTensor drawn(int tokens, long heads, long dim) {
        TestTensor tensor = TestTensor.padded(shape.dtype(), shape.batch(), tokens, heads, dim, 1);
        for (int row = 0; row < shape.batch(); row++) {
            for (int token = 0; token < tokens; token++) {
                for (int head = 0; head < heads; head++) {
                    for (int d = 0; d < dim; d++) {
                        tensor.put(row, token, head, d, random.nextGaussian());
                    }
                }
            }
        }
        return tensor;
    }

    /**
     * Makes numbers those that the cache holds exactly: of bytes, small whole numbers times the scale of their head.
     */
    private TestTensor cached(TestTensor tensor) {
        for (int row = 0; plan.type() == CacheType.FLOAT8_E4M3 && row < shape.batch(); row++) {
            for (int token = 0; token < tensor.length(); token++) {
                for (int head = 0; head < tensor.heads(); head++) {
                    for (int d = 0; d < tensor.dim(); d++) {
                        double whole = Math.max(-16, Math.min(16, Math.rint(4 * tensor.get(row, token, head, d))));
                        tensor.put(row, token, head, d, whole * scale(head));
                    }
                }
            }
        }
        return tensor;
    }

    private static double scale(int head) {
        return 0.25 / (1 << head);
    }

    private static void remember(List<double[]> to, TestTensor from, int row, int fresh) {
        for (int token = 0; token < fresh; token++) {
            double[] all = new double[Math.toIntExact(from.heads() * from.dim())];
            for (int i = 0; i < all.length; i++) {
                all[i] = from.get(row, token, i / from.dim(), i % from.dim());
            }
            to.add(all);
        }
    }

    private void compare(
            int layer, int row, int token, int fresh, int head, TestTensor q, TestTensor out, TestTensor lse) {
        List<double[]> seenKeys = keys.get(layer).get(row);
        List<double[]> seenValues = values.get(layer).get(row);
        int position = seenKeys.size() - fresh + token;
        int first = plan.window() == 0 ? 0 : (int) Math.max(0, position - plan.window() + 1);
        int end = token < fresh ? position + 1 : first;
        int keyHead = (int) (head / (shape.queryHeads() / shape.kvHeads()));
        double[] sum = new double[Math.toIntExact(shape.valueDim())];
        double total = sinks == null || end <= first ? 0 : Math.exp(sinks[head]);
        for (int j = first; j < end; j++) {
            double score = 0;
            for (int d = 0; d < shape.headDim(); d++) {
                score += q.get(row, token, head, d) * seenKeys.get(j)[keyHead * (int) shape.headDim() + d];
            }
            score *= plan.score().scaleFor(shape);
            double cap = plan.score().softcap();
            double weight = Math.exp(cap > 0 ? cap * Math.tanh(score / cap) : score); // of order 1: no shift is needed
            total += weight;
            for (int d = 0; d < sum.length; d++) {
                sum[d] += weight * seenValues.get(j)[keyHead * sum.length + d];
            }
        }
        double tolerance = tolerance(shape.dtype());
        String what = "layer " + layer + ", row " + row + ", token " + token + ", head " + head;
        for (int d = 0; d < sum.length; d++) {
            double found = out.get(row, token, head, d);
            requireClose(what, found, end <= first ? 0 : sum[d] / total, tolerance);
            results.add(found);
        }
        double found = lse.get(row, token, head, 0);
        double nothing = sinks == null ? Double.NEGATIVE_INFINITY : sinks[head];
        requireClose(what, found, end <= first ? nothing : Math.log(total), Math.min(tolerance, 1e-4));
        results.add(found);
    }

    /** Many numbers are compared, so not one by one by AssertJ. */
    private static void requireClose(String what, double found, double expected, double tolerance) {
        if (found != expected && !(Math.abs(found - expected) <= tolerance)) {
            throw new AssertionError(what + " is " + found + ", not " + expected);
        }
    }

    private static double tolerance(DType dtype) {
        return switch (dtype) {
            case FLOAT64 -> 1e-12;
            case FLOAT32 -> 1e-5;
            case FLOAT16 -> 4e-3;
            case BFLOAT16 -> 3e-2;
        };
    }
}
