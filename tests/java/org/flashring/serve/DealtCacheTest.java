package org.flashring.serve;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;
import static org.assertj.core.api.Assertions.offset;

import java.util.List;
import org.bytedeco.javacpp.IntPointer;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Score;
import org.flashring.Tensor;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.internal.RawPointer;
import org.flashring.support.TestTensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Pages dealt over ranks: {@link Decoding} compares each rank's outputs with the formula over all keys. */
class DealtCacheTest {
    private static CachePlan plan(DType dtype, long pageSize, int ranks) {
        AttentionShape shape = new AttentionShape(2, 6, 2, 16, 24, dtype);
        return CachePlan.paged(shape, 2, 90, pageSize).withNewTokens(40).dealtOver(ranks);
    }

    private static List<List<Double>> decoded(CachePlan plan) {
        return LocalGroup.run(plan.ranks(), ranks -> {
            try (Decoding decoding = new Decoding(plan, 11);
                    Cache cache = new Cache(plan, ranks)) {
                decoding.begin(cache);
                decoding.step(cache, 3); // ranks without any key
                decoding.step(cache, 40, 40, 7);
                decoding.step(cache, 1);
                decoding.step(cache, 5, 0, 5); // across a page, several ranks holding new keys
                decoding.forget(cache, 0);
                decoding.step(cache, 33);
                decoding.step(cache, 1);
                assertThat(cache.length(0)).isEqualTo(34);
                assertThat(cache.length(1)).isEqualTo(50);
                return decoding.results();
            }
        });
    }

    @ParameterizedTest
    @CsvSource({
        "FLOAT64, 1, 2, 0",
        "FLOAT64, 8, 3, 0",
        "FLOAT64, 8, 4, 13",
        "FLOAT64, 16, 1, 0",
        "FLOAT32, 4, 4, 0",
        "BFLOAT16, 16, 2, 0",
        "FLOAT16, 64, 4, 5"
    })
    void everyRankGetsTheSame(DType dtype, long pageSize, int ranks, long window) {
        List<List<Double>> results = decoded(plan(dtype, pageSize, ranks).withWindow(window));
        assertThat(results).allMatch(results.get(0)::equals);
    }

    /** Each rank's own memory, all keys of a head side by side. */
    @Test
    void callersMemory() {
        CachePlan plan = plan(DType.FLOAT32, 8, 2);
        LocalGroup.run(2, ranks -> {
            TestTensor[] k = new TestTensor[2];
            TestTensor[] v = new TestTensor[2];
            for (int layer = 0; layer < 2; layer++) {
                k[layer] = TestTensor.headsFirst(DType.FLOAT32, plan.pages(), 8, 2, 16);
                v[layer] = TestTensor.headsFirst(DType.FLOAT32, plan.pages(), 8, 2, 24);
            }
            try (Decoding decoding = new Decoding(plan, 5);
                    Cache cache = new Cache(
                            plan,
                            ranks,
                            List.of(k[0].tensor(), k[1].tensor()),
                            List.of(v[0].tensor(), v[1].tensor()))) {
                decoding.step(cache, 20);
                decoding.step(cache, 1);
                assertThat(k[1].get(0, 0, 0, 0) + k[1].get(plan.pages() - 1, 0, 0, 0))
                        .isNaN(); // one is not taken
                return null;
            }
        });
    }

    /** A sink is one key of all ranks together. */
    @Test
    void scores() {
        decoded(plan(DType.FLOAT64, 8, 3)
                .with(Score.scaledBy(0.4).withSoftcap(3).withSinks()));
    }

    /** Rows of 90 keys in pages of 8, of which the first rank gets the longer share. */
    @Test
    void sharesAndBytes() {
        CachePlan whole = plan(DType.BFLOAT16, 8, 1);
        CachePlan dealt = whole.dealtOver(4);
        assertThat(whole.pages()).isEqualTo(2 * 12);
        assertThat(dealt.pages()).isEqualTo(2 * 3);
        assertThat(dealt.bytesSent(1)).isEqualTo(2L * 3 * 2 * 6 * (24 + 1) * 4);
        assertThat((double) dealt.bytesRead(90)).isCloseTo(whole.bytesRead(90) / 4.0, offset(8 * 2 * 2 * 2 * 80.0));
    }

    /** The first rank's fourth page is needed first: all refuse, and none has taken any. */
    @Test
    void ranksRefuseAlikeWherePagesAreShort() {
        AttentionShape shape = new AttentionShape(2, 6, 2, 16, 24, DType.FLOAT32);
        CachePlan plan =
                CachePlan.paged(shape, 1, 8, 1).withNewTokens(3).dealtOver(2).withPages(3);
        List<String> said = LocalGroup.run(2, ranks -> {
            try (Decoding decoding = new Decoding(plan, 5);
                    Cache cache = new Cache(plan, ranks)) {
                Throwable thrown = catchThrowable(() -> decoding.step(cache, 3));
                assertThat(thrown).isInstanceOf(IllegalStateException.class);
                assertThat(cache.freePages()).isEqualTo(3);
                assertThatThrownBy(() -> cache.reserve(1, 7, 0)).hasMessageContaining("and 4 more are needed");
                return thrown.getMessage();
            }
        });
        assertThat(said).allMatch(text -> text.startsWith("rank 0 of the cache has 3 free pages of 3, and 4 more"));
        LocalGroup.run(2, ranks -> {
            try (Decoding decoding = new Decoding(plan, 5);
                    Cache cache = new Cache(plan, ranks)) {
                decoding.step(cache, 2);
                decoding.step(cache, 1, 1, 0); // takes the first rank's last page
                assertThat(cache.freePages()).isZero();
                decoding.forget(cache, 0);
                assertThat(cache.freePages()).isEqualTo(2);
                return null;
            }
        });
    }

    /** Who cannot go on with the second part of the queries says so: the other does not wait for its states. */
    @Test
    void aFailureBetweenPartsEndsTheGroup() {
        CachePlan plan = plan(DType.FLOAT32, 8, 2);
        Tensor q = TestTensor.dense(DType.FLOAT32, 2, 40, 6, 16).tensor();
        Tensor k = TestTensor.dense(DType.FLOAT32, 2, 40, 2, 16).tensor();
        Tensor v = TestTensor.dense(DType.FLOAT32, 2, 40, 2, 24).tensor();
        List<Throwable> thrown = LocalGroup.run(2, ranks -> {
            Tensor out = TestTensor.dense(DType.FLOAT32, 2, 40, 6, 24).tensor();
            try (Cache cache = new Cache(plan, ranks)) {
                cache.append(0, k, v);
                if (ranks.rank() == 1) { // the lengths of both rows behind the second part
                    long address = cache.lengths().address() + 2 * 2 * Integer.BYTES;
                    new IntPointer(new RawPointer().at(address)).put(-1);
                }
                return catchThrowable(() -> cache.forward(0, q, out));
            }
        });
        assertThat(thrown.get(1)).isInstanceOf(IllegalArgumentException.class).hasMessageContaining("kv_lengths[0]");
        assertThat(thrown.get(0))
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("rank 1 failed")
                .hasMessageContaining("kv_lengths[0]");
    }

    @Test
    void refusals() {
        CachePlan plan = plan(DType.FLOAT32, 8, 2);
        assertThatThrownBy(() -> new Cache(plan, Device.HOST))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("plan.ranks is 2; it must be 1");
        assertThatThrownBy(() -> CachePlan.contiguous(plan.shape(), 1, 8).dealtOver(2))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("pages are what is dealt");
        assertThatThrownBy(() -> LocalGroup.run(2, ranks -> {
                    new Cache(ranks.rank() == 0 ? plan : plan.withWindow(3), ranks).close();
                    return null;
                }))
                .isInstanceOf(CommunicationException.class)
                .hasMessageContaining("window");
    }
}
