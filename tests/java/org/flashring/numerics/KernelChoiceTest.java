package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.internal.Native;
import org.flashring.internal.NativeStructs;
import org.flashring.kernel.Capability;
import org.flashring.plan.Plan;
import org.flashring.support.Capped;
import org.flashring.support.Kernels;
import org.flashring.support.MaskRule;
import org.flashring.support.Oracle;
import org.flashring.support.Problem;
import org.flashring.support.RingRun;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** AUTO takes the best kernel of the machine, and what no kernel serves is refused by name. */
@Capped
class KernelChoiceTest {
    /** The host's kernels that serve forward and backward, the best first. */
    private static final List<Kernel> PREFERENCE =
            List.of(Kernel.AMX, Kernel.AVX512, Kernel.AVX512BF16, Kernel.AVX2, Kernel.SIMD128, Kernel.REFERENCE);

    static List<Capability> hostRows() {
        return Capability.all().stream()
                .filter(row -> !row.cuda() && row.backward())
                .toList();
    }

    @Test
    void theTableListsTheBestFirst() {
        assertThat(hostRows().stream().map(Capability::kernel).distinct()).containsExactlyElementsOf(PREFERENCE);
    }

    /** Other tests run whatever is there; this one shows in reports what was not. */
    @ParameterizedTest(name = "{0}")
    @MethodSource("hostRows")
    void everyKernelRunsHere(Capability row) {
        assumeTrue(row.available(), row.cause());
        assertThat(row.cause()).isEmpty();
        Problem problem = Problem.of(AttentionShape.of(1, 2, 1, 16, row.dtype()), 40, MaskRule.CAUSAL, 2);
        RingRun run = RingRun.of(problem, Layout.zigzag(40, 2))
                .with(AttentionOptions.defaults().withKernel(row.kernel()));
        double bound = row.dtype() == DType.FLOAT64 ? 1e-12 : row.dtype() == DType.FLOAT32 ? 1e-5 : 5e-2;
        run.run().requireWithin(bound, Oracle.float64(problem), row.name());
    }

    @ParameterizedTest
    @EnumSource
    void autoIsTheHighestKernelOfTheMachine(DType dtype) {
        Kernel highest = PREFERENCE.stream()
                .filter(Kernels.available(dtype)::contains)
                .findFirst()
                .orElseThrow();
        int[] row = new int[1];
        try (NativeStructs.Step step = Native.newStep()) {
            step.device(Native.HOST).dtype(dtype.code()).kernel(Kernel.AUTO.code());
            step.batch(1)
                    .queryHeads(1)
                    .kvHeads(1)
                    .headDim(64)
                    .valueDim(64)
                    .queryLength(80)
                    .keyLength(80)
                    .softmaxScale(1);
            for (int direction : new int[] {Native.FORWARD, Native.BACKWARD}) {
                assertThat(Native.select(step, direction, row)).isEqualTo(Native.OK);
                assertThat(Capability.all().get(row[0]).kernel()).isEqualTo(highest);
                assertThat(Capability.all().get(row[0]).dtype()).isEqualTo(dtype);
            }
        }
        RingRun run = RingRun.of(
                Problem.of(AttentionShape.of(1, 2, 1, 64, dtype), 70, MaskRule.CAUSAL, 1), Layout.zigzag(70, 2));
        run.with(AttentionOptions.defaults().withKernel(highest))
                .run()
                .requireSameBits(run.run(), "AUTO against " + highest);
    }

    /** Few queries go forward to the decode kernel, which the table lists before all others. */
    @ParameterizedTest
    @EnumSource
    void fewQueriesGoToTheDecodeKernel(DType dtype) {
        Capability decode = Capability.all().stream()
                .filter(row -> row.dtype() == dtype)
                .findFirst()
                .orElseThrow();
        assertThat(decode.kernel()).isEqualTo(Kernel.DECODE);
        assumeTrue(decode.available(), decode.cause());
        int[] row = new int[1];
        try (NativeStructs.Step step = Native.newStep()) {
            step.device(Native.HOST).dtype(dtype.code()).kernel(Kernel.AUTO.code());
            step.batch(1).queryHeads(8).kvHeads(2).headDim(64).valueDim(64).keyLength(80);
            step.queryLength(16).softmaxScale(1);
            assertThat(Native.select(step, Native.FORWARD, row)).isEqualTo(Native.OK);
            assertThat(Capability.all().get(row[0])).isEqualTo(decode);
            assertThat(Native.select(step, Native.BACKWARD, row)).isEqualTo(Native.OK);
            assertThat(Capability.all().get(row[0]).kernel()).isNotEqualTo(Kernel.DECODE);
            step.queryLength(17);
            assertThat(Native.select(step, Native.FORWARD, row)).isEqualTo(Native.OK);
            assertThat(Capability.all().get(row[0]).kernel()).isNotEqualTo(Kernel.DECODE);
        }
    }

    /** Each host row forward at the dims that it names, and beyond them. */
    @ParameterizedTest(name = "{0}")
    @MethodSource("hostRows")
    void forwardGoesAsFarAsTheTableSays(Capability row) {
        assumeTrue(row.available(), row.cause());
        assertThat(row.forwardDim()).isGreaterThanOrEqualTo(row.maxHeadDim());
        int[] chosen = new int[1];
        try (NativeStructs.Step step = Native.newStep()) {
            step.device(Native.HOST)
                    .dtype(row.dtype().code())
                    .kernel(row.kernel().code());
            step.batch(1).queryHeads(1).kvHeads(1).queryLength(80).keyLength(80).softmaxScale(1);
            step.headDim(row.forwardDim()).valueDim(row.forwardDim());
            assertThat(Native.select(step, Native.FORWARD, chosen)).isEqualTo(Native.OK);
            assertThat(Capability.all().get(chosen[0])).isEqualTo(row);
            step.valueDim(row.forwardDim() + 1);
            assertThat(Native.select(step, Native.FORWARD, chosen)).isNotEqualTo(Native.OK);
            step.headDim(576).valueDim(512);
            assertThat(Native.select(step, Native.FORWARD, chosen) == Native.OK).isEqualTo(row.latent());
            step.headDim(64).valueDim(64).softcap(30);
            assertThat(Native.select(step, Native.FORWARD, chosen) == Native.OK).isEqualTo(row.softcap());
            assertThat(Native.select(step, Native.BACKWARD, chosen) == Native.OK)
                    .isEqualTo(row.softcap());
        }
    }

    /** What the processor says of itself, against what the table says of the machine. */
    @Test
    void availableKernelsAreThoseOfTheProcessor() throws IOException {
        Set<String> flags = Files.readAllLines(Path.of("/proc/cpuinfo")).stream()
                .filter(line -> line.startsWith("flags"))
                .findFirst()
                .map(line -> new HashSet<>(Arrays.asList(line.split("\\s+"))))
                .orElseThrow();
        for (Capability row : hostRows()) {
            boolean lacking = row.cause().startsWith("this machine lacks ");
            switch (row.kernel()) {
                case REFERENCE, SIMD128 -> assertThat(lacking).isFalse();
                case AVX2 -> assertThat(lacking).isEqualTo(!flags.containsAll(List.of("avx2", "fma")));
                case AVX512 ->
                    assertThat(lacking)
                            .isEqualTo(!flags.containsAll(List.of("avx512f", "avx512bw", "avx512dq", "avx512vl")));
                case AVX512BF16 ->
                    assertThat(lacking)
                            .isEqualTo(!flags.containsAll(
                                    List.of("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16")));
                default ->
                    assertThat(lacking || flags.containsAll(List.of("amx_tile", "amx_bf16", "avx512f")))
                            .as("%s: Linux, too, may refuse it", row)
                            .isTrue();
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"513, 64, FLOAT32", "64, 600, FLOAT32", "513, 600, BFLOAT16", "1000000, 1, FLOAT64"})
    void dimsBeyondEveryKernelAreRefusedByName(long headDim, long valueDim, DType dtype) {
        AttentionShape shape = new AttentionShape(1, 1, 1, headDim, valueDim, dtype);
        long calls = Native.callCount();
        assertThatThrownBy(() -> Plan.of(shape, Layout.contiguous(8, 1), Mask.full(), AttentionOptions.defaults()))
                .isInstanceOf(UnsupportedOperationException.class)
                .hasMessageContaining(Long.toString(headDim))
                .hasMessageContaining(Long.toString(valueDim))
                .hasMessageContaining("512");
        assertThat(Native.callCount()).isEqualTo(calls);
    }

    @Test
    void typesThatAKernelDoesNotServeAreRefusedByName() {
        for (DType dtype : DType.values()) {
            for (Kernel kernel : Kernel.values()) {
                AttentionOptions options = AttentionOptions.defaults().withKernel(kernel);
                AttentionShape shape = AttentionShape.of(1, 1, 1, 64, dtype);
                if (Kernels.available(dtype).contains(kernel)) {
                    Plan.of(shape, Layout.contiguous(8, 1), Mask.full(), options);
                } else {
                    assertThatThrownBy(() -> Plan.of(shape, Layout.contiguous(8, 1), Mask.full(), options))
                            .isInstanceOf(UnsupportedOperationException.class)
                            .message()
                            .containsIgnoringCase(kernel.toString());
                }
            }
        }
    }
}
