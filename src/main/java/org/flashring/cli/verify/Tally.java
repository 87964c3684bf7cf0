package org.flashring.cli.verify;

import java.util.EnumMap;
import java.util.Map;
import org.flashring.DType;

/** The worst error of each tensor and element type, over all checks. */
final class Tally {
    /**
     * The relative rule of the field: a kernel may be this many times as wrong as the plain formula in the same type.
     */
    private static final double OUTPUT_FACTOR = 2;

    private static final double GRADIENT_FACTOR = 3;
    private static final double FLOAT64 = 1e-12;
    private static final double FLOAT32_OUTPUT = 4e-6;
    private static final double FLOAT32_GRADIENT = 1e-5;

    /**
     * The check that used up most of what is allowed to it. Errors are the largest |result - exact| over the largest
     * |exact|.
     *
     * @param checks checks made
     * @param error the error
     * @param allowed what that check allows
     * @param index its case
     */
    record Worst(int checks, double error, double allowed, int index) {
        double share() {
            return error / allowed;
        }
    }

    private final Map<DType, Map<Results.Name, Worst>> worst = new EnumMap<>(DType.class);

    /** Returns the relative error that each tensor of a scenario is allowed. */
    static Map<Results.Name, Double> allowed(Scenario scenario, Inputs operands, Results exact) {
        Map<Results.Name, Double> allowed = new EnumMap<>(Results.Name.class);
        DType dtype = scenario.shape().dtype();
        Results plain = dtype.bytes() > 2 ? null : PlainFormula.compute(scenario, operands);
        for (Results.Name name : Results.Name.values()) {
            boolean output = name == Results.Name.OUT || name == Results.Name.LSE;
            allowed.put(
                    name,
                    switch (dtype) {
                        case FLOAT64 -> FLOAT64;
                        case FLOAT32 -> output ? FLOAT32_OUTPUT : FLOAT32_GRADIENT;
                        // The formula may be right by luck; rounding the right result is never held against a kernel.
                        case BFLOAT16, FLOAT16 ->
                            (output ? OUTPUT_FACTOR : GRADIENT_FACTOR)
                                            * Math.max(error(plain.get(name), exact.get(name)), Rounding.unit(dtype))
                                    + wireRounding(scenario, name);
                    });
        }
        return allowed;
    }

    /**
     * Returns what dK and dV may lose on their way round in 16 bits, once at each rank; one device's formula does not
     * travel.
     */
    private static double wireRounding(Scenario scenario, Results.Name name) {
        DType wire = scenario.options().wireDType();
        boolean travels = name == Results.Name.DK || name == Results.Name.DV;
        return travels && wire != null && wire.bytes() == 2 ? scenario.layout().worldSize() * Rounding.unit(wire) : 0;
    }

    /**
     * Returns the largest |result - exact| over the largest |exact| (or 1, where that is less); infinity if NaN or
     * infinities differ.
     */
    static double error(double[] result, double[] exact) {
        double largest = 1;
        double difference = 0;
        for (int i = 0; i < exact.length; i++) {
            if (result[i] == exact[i]) {
                largest = Double.isFinite(exact[i]) ? Math.max(largest, Math.abs(exact[i])) : largest;
            } else if (Double.isFinite(result[i]) && Double.isFinite(exact[i])) {
                largest = Math.max(largest, Math.abs(exact[i]));
                difference = Math.max(difference, Math.abs(result[i] - exact[i]));
            } else {
                return Double.POSITIVE_INFINITY;
            }
        }
        return difference / largest;
    }

    /** Counts a check of one tensor, and returns whether it passes. */
    boolean check(Scenario scenario, Results.Name name, double error, double allowed) {
        Worst now = new Worst(1, error, allowed, scenario.index());
        worst.computeIfAbsent(scenario.shape().dtype(), dtype -> new EnumMap<>(Results.Name.class))
                .merge(name, now, (a, b) -> {
                    Worst most = b.share() > a.share() ? b : a;
                    return new Worst(a.checks() + 1, most.error(), most.allowed(), most.index());
                });
        return error <= allowed;
    }

    /** Returns the worst check by element type and tensor. */
    Map<DType, Map<Results.Name, Worst>> worst() {
        return worst;
    }
}
