package org.flashring.support;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.flashring.AttentionShape;

/** What attention computes, over the whole sequence, in dense [batch, length, heads, dim] order. */
public record Result(double[] out, double[] lse, double[] dq, double[] dk, double[] dv) {

    public static final List<String> NAMES = List.of("out", "lse", "dq", "dk", "dv");

    /** Returns a result for {@code problem} in which nothing has been computed: NaN everywhere. */
    public static Result none(Problem problem) {
        AttentionShape shape = problem.shape();
        return new Result(
                nan(problem.queryElements(shape.valueDim())),
                nan(problem.queryElements(1)),
                nan(problem.queryElements(shape.headDim())),
                nan(problem.keyElements(shape.headDim())),
                nan(problem.keyElements(shape.valueDim())));
    }

    /** Returns a result of the same numbers. */
    public Result copy() {
        return new Result(out.clone(), lse.clone(), dq.clone(), dk.clone(), dv.clone());
    }

    private static double[] nan(int count) {
        double[] values = new double[count];
        Arrays.fill(values, Double.NaN);
        return values;
    }

    /** The largest difference between two tensors and where it is; infinite where one alone is infinite or NaN. */
    public record Difference(double error, int index, double expected, double actual) {
        @Override
        public String toString() {
            return error + " at element " + index + ": expected " + expected + ", got " + actual;
        }
    }

    /** Returns the tensor called {@code name}. */
    public double[] tensor(String name) {
        return switch (name) {
            case "out" -> out;
            case "lse" -> lse;
            case "dq" -> dq;
            case "dk" -> dk;
            case "dv" -> dv;
            default -> throw new IllegalArgumentException(name);
        };
    }

    /** Returns the largest finite magnitude in the tensor called {@code name}. */
    public double largest(String name) {
        return Arrays.stream(tensor(name))
                .map(Math::abs)
                .filter(Double::isFinite)
                .max()
                .orElse(0);
    }

    /** Returns the largest difference of each tensor from {@code expected}, by the tensor's name. */
    public Map<String, Difference> differences(Result expected) {
        Map<String, Difference> all = new LinkedHashMap<>();
        for (String name : NAMES) {
            all.put(name, difference(expected.tensor(name), tensor(name)));
        }
        return all;
    }

    private static Difference difference(double[] expected, double[] actual) {
        if (expected.length != actual.length) {
            throw new AssertionError("expected " + expected.length + " elements, got " + actual.length);
        }
        Difference worst = new Difference(0, -1, 0, 0);
        for (int i = 0; i < expected.length; i++) {
            double error = Double.compare(expected[i], actual[i]) == 0 ? 0 : Math.abs(expected[i] - actual[i]);
            error = Double.isNaN(error) ? Double.POSITIVE_INFINITY : error;
            if (error > worst.error()) {
                worst = new Difference(error, i, expected[i], actual[i]);
            }
        }
        return worst;
    }

    /**
     * Throws, naming the tensor, the place and {@code replay}, unless every element is within {@code bound} of the
     * expected.
     */
    public void requireWithin(double bound, Result expected, String replay) {
        differences(expected).forEach((name, difference) -> {
            if (difference.error() > bound) {
                throw new AssertionError(name + " is off by " + difference + " (bound " + bound + "); " + replay);
            }
        });
    }

    /** Throws, naming {@code replay}, unless every bit is as expected; all NaNs count as one. */
    public void requireSameBits(Result expected, String replay) {
        requireWithin(0, expected, replay);
        for (String name : NAMES) {
            if (!Arrays.equals(tensor(name), expected.tensor(name))) {
                throw new AssertionError(name + ": zeros differ in sign; " + replay);
            }
        }
    }
}
