package org.flashring.cli.bench;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.cli.support.Machine;
import org.junit.jupiter.api.Test;

/** Lines are there as soon as they are known, and say where the peer is no measure. */
class ContestTableTest {
    private static final Machine PLAIN = new Machine("plain", List.of("avx2", "fma"), 2);
    private static final Machine AMX = new Machine("rapid", List.of("amx_bf16", "avx512_fp16"), 2);

    private final StringWriter text = new StringWriter();

    private static BenchCase bench(DType dtype) {
        return new BenchCase(AttentionShape.of(1, 8, 8, 64, dtype), 2048, true);
    }

    private static Contest.Score score(String pass) {
        return new Contest.Score(pass, 1e9, new double[] {2}, new double[] {30}, 1e-3);
    }

    private ContestTable table(Machine machine, DType dtype) {
        text.getBuffer().setLength(0);
        return new ContestTable(new PrintWriter(text), List.of(bench(dtype)), machine, 2, 0.5);
    }

    @Test
    void linesComeOneByOneUnderTheirHeadings() {
        ContestTable table = table(PLAIN, DType.FLOAT32);
        assertThat(text.toString())
                .contains("Element type")
                .contains("load average before: 0.5")
                .doesNotContain("Slow peer");
        String before = text.toString();
        table.add(bench(DType.FLOAT32), score("forward"));
        String line = text.toString().substring(before.length());
        assertThat(line)
                .hasLineCount(1)
                .contains("float32", "causal", "forward", "500.0", "33.3", "15.00")
                .doesNotContain("slow");
        String heading = before.lines()
                .filter(row -> row.startsWith("Element type"))
                .findFirst()
                .orElseThrow();
        assertThat(line.indexOf("15.00") + 5).isEqualTo(heading.indexOf("Ratio") + 5);
    }

    @Test
    void aPeerWithoutInstructionsForTheTypeIsCalledSlow() {
        ContestTable table = table(PLAIN, DType.BFLOAT16);
        assertThat(text.toString()).contains("Slow peer: ");
        table.add(bench(DType.BFLOAT16), score("forward"));
        assertThat(text.toString()).containsPattern("bfloat16 .* 15\\.00  slow");
        assertThat(table.lines().get(0).torchFastPath()).isFalse();
    }

    @Test
    void whatIsFastWhere() {
        for (DType wide : List.of(DType.FLOAT32, DType.FLOAT64)) {
            assertThat(ContestTable.fastPath(PLAIN, wide, true)).isTrue();
        }
        assertThat(ContestTable.fastPath(AMX, DType.BFLOAT16, false)).isTrue();
        assertThat(ContestTable.fastPath(AMX, DType.BFLOAT16, true)).isFalse();
        assertThat(ContestTable.fastPath(AMX, DType.FLOAT16, false)).isTrue();
        assertThat(ContestTable.fastPath(PLAIN, DType.BFLOAT16, false)).isFalse();
        assertThat(ContestTable.fastPath(PLAIN, DType.FLOAT16, false)).isFalse();
    }

    /** Where time is short one run is made and counts; where there is enough, all are, and the first two do not. */
    @Test
    void runsFitTheBudget() {
        BenchCase small = new BenchCase(AttentionShape.of(1, 1, 1, 8, DType.FLOAT32), 8, true);
        for (long nothing : new long[] {0, -1}) {
            assertThat(Contest.run(small, 3, nothing))
                    .allSatisfy(score -> assertThat(score.torchMillis()).hasSize(1));
        }
        assertThat(Contest.run(small, 3, Long.MAX_VALUE))
                .allSatisfy(score -> assertThat(score.flashRingMillis()).hasSize(3));
    }
}
