package org.flashring.cli.verify;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Score;
import org.flashring.device.Device;
import org.flashring.plan.Ring;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** A verification is worth what it refuses. */
class TallyTest {
    private static final double INFINITY = Double.POSITIVE_INFINITY;

    @Test
    void errorIsRelativeToTheLargestValue() {
        assertThat(Tally.error(new double[] {4, -8.5}, new double[] {4, -8})).isEqualTo(0.5 / 8);
        assertThat(Tally.error(new double[] {0.25}, new double[] {0.125})).isEqualTo(0.125);
    }

    @Test
    void whatIsNotFiniteMustBeTheSame() {
        assertThat(Tally.error(new double[] {-INFINITY, 1}, new double[] {-INFINITY, 1}))
                .isZero();
        assertThat(Tally.error(new double[] {Double.NaN}, new double[] {1})).isEqualTo(INFINITY);
        assertThat(Tally.error(new double[] {1}, new double[] {-INFINITY})).isEqualTo(INFINITY);
        assertThat(Tally.error(new double[] {-INFINITY}, new double[] {0})).isEqualTo(INFINITY);
        assertThat(Tally.error(new double[] {INFINITY}, new double[] {-INFINITY}))
                .isEqualTo(INFINITY);
    }

    @Test
    void aWrongElementFails() {
        Scenario scenario = firstOf(DType.FLOAT64);
        Inputs operands = Inputs.draw(scenario, new Random(1));
        Results exact = ScenarioRun.run(scenario.exact(), new Ring(), operands, Kernel.REFERENCE, List.of(Device.HOST));
        Map<Results.Name, Double> allowed = Tally.allowed(scenario, operands, exact);
        for (Results.Name name : Results.Name.values()) {
            double[] wrong = exact.get(name).clone();
            wrong[wrong.length - 1] += 1e-10;
            double error = Tally.error(wrong, exact.get(name));
            assertThat(new Tally().check(scenario, name, error, allowed.get(name)))
                    .as(name.toString())
                    .isFalse();
            assertThat(new Tally().check(scenario, name, 0, allowed.get(name))).isTrue();
        }
    }

    /** The yardstick: the formula in the type itself is about as wrong as the type is coarse. */
    @ParameterizedTest
    @EnumSource(names = {"FLOAT32", "BFLOAT16", "FLOAT16"})
    void thePlainFormulaIsRightToItsPrecision(DType dtype) {
        Scenario scenario = firstOf(dtype);
        Inputs operands = Inputs.draw(scenario, new Random(2));
        Results exact = ScenarioRun.run(scenario.exact(), new Ring(), operands, Kernel.REFERENCE, List.of(Device.HOST));
        Results plain = PlainFormula.compute(scenario, operands);
        for (Results.Name name : Results.Name.values()) {
            assertThat(Tally.error(plain.get(name), exact.get(name)))
                    .as(name.toString())
                    .isPositive()
                    .isLessThan((name == Results.Name.DSINKS ? 100 : 20) * Rounding.unit(dtype)); // a sum over rows
        }
    }

    private static Scenario firstOf(DType dtype) {
        Scenarios scenarios = new Scenarios(1, 0);
        return IntStream.range(0, Scenarios.FIXED)
                .mapToObj(scenarios::scenario)
                .filter(scenario -> scenario.shape().dtype() == dtype
                        && scenario.length() > 60
                        && scenario.shape().headDim() > 15)
                .findFirst()
                .map(TallyTest::withAllScores)
                .orElseThrow();
    }

    @ParameterizedTest
    @CsvSource({
        "BFLOAT16, 1.00390625, 1", // ties go to even
        "BFLOAT16, 1.01171875, 1.015625",
        "BFLOAT16, -3.14159265, -3.140625",
        "FLOAT16, 1.00048828125, 1",
        "FLOAT16, 65503, 65504",
        "FLOAT16, 8.9407e-8, 1.1920928955078125e-7", // a denormal
        "FLOAT16, 2.9e-8, 0",
        "FLOAT32, 0.1, 0.10000000149011612",
        "FLOAT64, 0.1, 0.1"
    })
    void rounding(DType dtype, double value, double expected) {
        assertThat(Rounding.round(dtype, value)).isEqualTo(expected);
    }

    @Test
    void casesCoverEveryWorldLayoutMaskAndType() {
        Scenarios scenarios = new Scenarios(1, 0);
        var fixed = IntStream.range(0, Scenarios.FIXED)
                .mapToObj(scenarios::scenario)
                .toList();
        for (int world : new int[] {1, 2, 3, 4, 8}) {
            for (DType dtype : DType.values()) {
                assertThat(fixed)
                        .anyMatch(scenario -> scenario.layout().worldSize() == world
                                && scenario.shape().dtype() == dtype);
            }
        }
        assertThat(fixed.stream().map(scenario -> scenario.layout().policy()).distinct())
                .hasSize(3);
        assertThat(fixed)
                .anyMatch(scenario -> scenario.length() < scenario.layout().worldSize());
        assertThat(fixed)
                .anyMatch(scenario ->
                        scenario.shape().headDim() != scenario.shape().valueDim());
        assertThat(Arrays.stream(DType.values())
                        .map(dtype -> firstOf(dtype).toString())
                        .distinct())
                .hasSize(4);
    }

    private static Scenario withAllScores(Scenario of) {
        double[] slopes = new double[(int) of.shape().queryHeads()];
        Arrays.fill(slopes, 0.0625);
        Score score = Score.standard().withSoftcap(2).withSinks().withAlibi(slopes);
        return new Scenario(
                of.index(), of.shape(), of.layout(), of.mask(), score, of.options(), of.headsFirst(), of.gradients());
    }
}
