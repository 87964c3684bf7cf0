package org.flashring.cli.bench;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.comm.local.LocalGroup;
import org.junit.jupiter.api.Test;

/** Threads play the processes. */
class LaunchedBenchTest {
    @Test
    void eachCaseHasALineForEachPass() {
        BenchCase bench = new BenchCase(AttentionShape.of(1, 2, 1, 16, DType.BFLOAT16), 33, true);
        List<String> printed = LocalGroup.run(2, ranks -> {
            StringWriter out = new StringWriter();
            LaunchedBench.Result result = LaunchedBench.run(List.of(bench), 3, 1, ranks, new PrintWriter(out));
            assertThat(result.processes()).isEqualTo(2);
            assertThat(result.lines()).extracting(LaunchedBench.Line::pass).containsExactly("forward", "backward");
            assertThat(result.lines()).allSatisfy(line -> {
                assertThat(line.runMillis()).hasSize(3).doesNotContain(0.0);
                assertThat(line.millis()).isEqualTo(Median.of(line.runMillis()));
            });
            return out.toString();
        });
        assertThat(printed.get(0))
                .contains("2 processes of 1 thread")
                .containsPattern("B1 H2/1 S33 D16 +causal +backward");
    }
}
