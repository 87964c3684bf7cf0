package org.flashring.numerics;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.Capability;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Plan;
import org.flashring.internal.Native;
import org.flashring.support.Kernels;
import org.flashring.support.MaskRule;
import org.flashring.support.Problem;
import org.flashring.support.RingRun;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** AUTO takes the best kernel of the machine, and what no kernel serves is refused by name. */
class KernelChoiceTest {
    private static final List<Kernel> ASCENDING =
            List.of(Kernel.REFERENCE, Kernel.SIMD128, Kernel.AVX2, Kernel.AVX512, Kernel.AVX512BF16, Kernel.AMX);

    @ParameterizedTest
    @EnumSource
    void autoIsTheHighestKernelOfTheMachine(DType dtype) {
        Kernel highest = Kernels.available(dtype).stream().max(Comparator.comparing(ASCENDING::indexOf)).orElseThrow();
        assertThat(highest).isNotIn(Kernel.AUTO, Kernel.REFERENCE);
        int[] row = new int[1];
        try (Native.Step step = Native.newStep()) {
            step.device(Native.HOST).dtype(dtype.code()).kernel(Kernel.AUTO.code());
            step.batch(1).queryHeads(1).kvHeads(1).headDim(64).valueDim(64).queryLength(8).keyLength(8).softmaxScale(1);
            for (int direction : new int[] {Native.FORWARD, Native.BACKWARD}) {
                assertThat(Native.select(step, direction, row)).isEqualTo(Native.OK);
                assertThat(Capability.all().get(row[0]).kernel()).isEqualTo(highest);
                assertThat(Capability.all().get(row[0]).dtype()).isEqualTo(dtype);
            }
        }
        RingRun run = RingRun.of(Problem.of(AttentionShape.of(1, 2, 1, 64, dtype), 70, MaskRule.CAUSAL, 1), Layout.zigzag(70, 2));
        run.with(AttentionOptions.defaults().withKernel(highest)).run().requireSameBits(run.run(), "AUTO against " + highest);
    }

    /** What the processor says of itself, against what the table says of the machine. */
    @Test
    void availableKernelsAreThoseOfTheProcessor() throws IOException {
        Set<String> flags = Files.readAllLines(Path.of("/proc/cpuinfo")).stream().filter(line -> line.startsWith("flags")).findFirst()
                .map(line -> new HashSet<>(Arrays.asList(line.split("\\s+")))).orElseThrow();
        assertThat(Kernels.available(DType.FLOAT32).contains(Kernel.SIMD128)).isTrue();
        assertThat(Kernels.available(DType.FLOAT32).contains(Kernel.AVX2)).isEqualTo(flags.containsAll(List.of("avx2", "fma")));
        assertThat(Kernels.available(DType.FLOAT32).contains(Kernel.AVX512))
                .isEqualTo(flags.containsAll(List.of("avx512f", "avx512bw", "avx512dq", "avx512vl")));
        assertThat(Kernels.available(DType.BFLOAT16).contains(Kernel.AVX512BF16))
                .isEqualTo(flags.containsAll(List.of("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16")));
        if (Kernels.available(DType.BFLOAT16).contains(Kernel.AMX)) {
            assertThat(flags).contains("amx_tile", "amx_bf16", "avx512f");
        }
    }

    @ParameterizedTest
    @CsvSource({"257, 64, FLOAT32", "64, 300, FLOAT32", "257, 300, BFLOAT16", "1000000, 1, FLOAT64"})
    void dimsBeyondEveryKernelAreRefusedByName(long headDim, long valueDim, DType dtype) {
        AttentionShape shape = new AttentionShape(1, 1, 1, headDim, valueDim, dtype);
        long calls = Native.callCount();
        assertThatThrownBy(() -> Plan.of(shape, Layout.contiguous(8, 1), Mask.full(), AttentionOptions.defaults()))
                .isInstanceOf(UnsupportedOperationException.class)
                .hasMessageContaining(Long.toString(headDim)).hasMessageContaining(Long.toString(valueDim)).hasMessageContaining("256");
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
                            .message().containsIgnoringCase(kernel.toString());
                }
            }
        }
    }
}
