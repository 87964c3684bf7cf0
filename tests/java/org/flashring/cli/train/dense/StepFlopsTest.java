package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.comm.Mesh;
import org.flashring.plan.Ring;
import org.flashring.support.Strategies;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What a step is worth, against sums over matrices and pairs one by one. */
class StepFlopsTest {
    private static final DenseModel MODEL = new DenseModel(3, 4, 2, 8, 24, 40, 31, 1e-6, 10_000);

    @ParameterizedTest
    @CsvSource({"'0,61', 0, cp=3, KEEP, 1", "'0,61', 7, 'dp=2,cp=2', FULL, 2", "'0,13,40,61', 0, cp=1, KEEP, 1"})
    void countsMatricesAndVisiblePairs(String documents, int window, String mesh, Recompute recompute, int groups) {
        String[] offsets = documents.split(",");
        long[] ends = new long[offsets.length];
        for (int i = 0; i < ends.length; i++) {
            ends[i] = Long.parseLong(offsets[i]);
        }
        int rows = 3;
        DenseSettings settings = new DenseSettings(
                MODEL,
                DType.FLOAT32,
                Mesh.of(mesh),
                rows,
                Layout.Policy.ZIGZAG,
                ends,
                window,
                recompute == Recompute.FULL ? Strategies.named("gather 1") : new Ring(),
                recompute,
                groups,
                16,
                16);
        long pairs = 0;
        for (int document = 0; document + 1 < ends.length; document++) {
            for (long query = ends[document]; query < ends[document + 1]; query++) {
                for (long key = ends[document]; key <= query; key++) {
                    pairs += window == 0 || query - key < window ? 1 : 0;
                }
            }
        }
        int qkv = 24 * (4 + 2 + 2) * 8;
        int out = 24 * 4 * 8;
        int mlp = 3 * 24 * 40;
        int norms = 2 * 24;
        double weights = 3 * (qkv + out + mlp + norms) + 24 + 24 * 31;
        double forward = 3 * 4 * 2.0 * 2 * 8 * rows * pairs; // layers, heads, q kᵀ and p v, multiply and add, headDim
        StepFlops flops = StepFlops.of(settings);
        assertThat(flops.dense()).isEqualTo(6 * weights * rows * 61);
        assertThat(flops.attention()).isEqualTo(3 * forward);
        assertThat(flops.model()).isEqualTo(flops.dense() + flops.attention());
        double again = 2.0 * rows * 61 * 3 * (qkv + out + 2 * 24 * 40);
        assertThat(flops.computed())
                .isCloseTo(flops.dense() + again + (recompute == Recompute.FULL ? 4.5 : 3.5) * forward, within(1.0));
    }
}
