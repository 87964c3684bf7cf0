package org.flashring.serve;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.bytedeco.javacpp.BytePointer;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Score;
import org.flashring.Tensor;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.Stream;
import org.flashring.support.GpuGraph;
import org.flashring.support.RequiresGpu;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Caches on a GPU: the formula, the same bits in pages, dealt over ranks, and steps of a captured graph. */
class GpuCacheTest {
    private static final Device GPU = Device.cuda(0);
    private static final Duration DEADLINE = Duration.ofSeconds(60);
    private static final AttentionOptions ON_CUDA = AttentionOptions.defaults().onCuda();

    private static CachePlan plan(long pageSize) {
        AttentionShape shape = AttentionShape.of(2, 8, 2, 64, DType.BFLOAT16);
        CachePlan plan = pageSize == 0 ? CachePlan.contiguous(shape, 2, 150) : CachePlan.paged(shape, 2, 150, pageSize);
        return plan.withNewTokens(40).with(ON_CUDA);
    }

    private static void decode(Decoding decoding, Cache cache) {
        decoding.begin(cache);
        decoding.step(cache, 3);
        decoding.step(cache, 40, 40, 7);
        decoding.step(cache, 1);
        decoding.step(cache, 5, 0, 5);
        decoding.forget(cache, 0);
        decoding.step(cache, 33);
        decoding.step(cache, 1);
    }

    private static List<Double> decoded(CachePlan plan) {
        try (Decoding decoding = new Decoding(plan, 7, GPU);
                Cache cache = new Cache(plan, GPU)) {
            decode(decoding, cache);
            return decoding.results();
        }
    }

    @RequiresGpu
    @Test
    void pagesChangeNoBit() {
        List<Double> expected = decoded(plan(0));
        assertThat(decoded(plan(16))).isEqualTo(expected);
        assertThat(decoded(plan(1))).isEqualTo(expected);
    }

    @RequiresGpu
    @Test
    void bytesInPagesChangeNoBit() {
        List<Double> expected = decoded(plan(0).with(CacheType.FLOAT8_E4M3));
        assertThat(decoded(plan(16).with(CacheType.FLOAT8_E4M3))).isEqualTo(expected);
        assertThat(decoded(plan(5).with(CacheType.FLOAT8_E4M3))).isEqualTo(expected);
    }

    /** Bits depend neither on the room that a row has nor on how the cache lies. */
    @RequiresGpu
    @Test
    void batchInvariantStepsHaveTheSameBitsInALargerCache() {
        CachePlan plan = plan(0).withBatchInvariance();
        CachePlan larger = CachePlan.contiguous(plan.shape(), 2, 9000)
                .withNewTokens(40)
                .with(ON_CUDA)
                .withBatchInvariance();
        List<Double> expected = decoded(plan);
        assertThat(decoded(larger)).isEqualTo(expected);
        assertThat(decoded(plan(16).withBatchInvariance())).isEqualTo(expected);
    }

    @RequiresGpu
    @Test
    void windowsAndScores() {
        decoded(plan(8).withWindow(20));
        decoded(plan(16).with(Score.standard().withSoftcap(2).withSinks()));
    }

    @RequiresGpu
    @ParameterizedTest
    @CsvSource({"1, 2, 0", "8, 3, 0", "16, 4, 21"})
    void dealtOverRanksOfOneGpu(long pageSize, int ranks, long window) {
        CachePlan plan = plan(pageSize).withWindow(window).dealtOver(ranks);
        List<List<Double>> results = LocalGroup.run(Collections.nCopies(ranks, GPU), DEADLINE, group -> {
            try (Decoding decoding = new Decoding(plan, 11, GPU);
                    Cache cache = new Cache(plan, group)) {
                decode(decoding, cache);
                return decoding.results();
            }
        });
        assertThat(results).allMatch(results.get(0)::equals);
    }

    /** Each replay goes on where the one before ended, and gives the bits of plain calls. */
    @RequiresGpu
    @ParameterizedTest
    @CsvSource({"0", "16"})
    void replays(long pageSize) {
        CachePlan plan = plan(pageSize);
        try (Stream stream = Stream.create(GPU);
                Cache plain = new Cache(plan, GPU);
                Cache captured = new Cache(plan, GPU);
                DeviceBuffer inputs = DeviceBuffer.allocate(GPU, 2 * (8 + 2 + 2) * 64 * 2);
                DeviceBuffer outputs = DeviceBuffer.allocate(GPU, 2 * 8 * 64 * 2)) {
            long s = stream.handle();
            Tensor[] t = operands(inputs, outputs);
            draw(inputs, 0);
            step(plain, t, s);
            step(captured, t, s);
            stream.synchronize();
            GpuGraph.begin(s);
            if (pageSize > 0) { // 17 tokens need a second page
                for (int row = 0; row < 2; row++) {
                    int reserved = row;
                    assertThatThrownBy(() -> captured.reserve(reserved, 120, s))
                            .isInstanceOf(IllegalStateException.class)
                            .hasMessageContaining("being captured");
                }
            }
            GpuGraph.end(s).close();
            captured.reserve(0, 120, s);
            captured.reserve(1, 120, s);
            stream.synchronize();
            GpuGraph.begin(s);
            step(captured, t, s);
            try (GpuGraph graph = GpuGraph.end(s)) {
                assertThat(captured.length(0)).isEqualTo(1); // a step that is captured brings nothing yet
                for (int replay = 1; replay <= 100; replay++) {
                    draw(inputs, replay);
                    step(plain, t, s);
                    byte[] expected = bytes(outputs, stream);
                    outputs.fill(0xFF, s);
                    graph.launch(s);
                    captured.replayed();
                    assertThat(Arrays.mismatch(bytes(outputs, stream), expected))
                            .as("first byte of replay %d that differs", replay)
                            .isEqualTo(-1);
                }
            }
            assertThat(captured.length(0)).isEqualTo(101).isEqualTo(plain.length(0));
        }
    }

    /** The page of a row that has been released is another's: the graph still brings the row tokens, to no page. */
    @RequiresGpu
    @Test
    void replaysLeaveThePagesOfOtherRowsAlone() {
        CachePlan plan = plan(16).withPages(2);
        long bytes = 2 * 16 * 2 * 64 * 2; // of a layer's keys: row 0 gets the first page, row 1 the second
        try (Stream stream = Stream.create(GPU);
                DeviceBuffer memory = DeviceBuffer.allocate(GPU, 4 * bytes);
                DeviceBuffer inputs = DeviceBuffer.allocate(GPU, 2 * (8 + 2 + 2) * 64 * 2);
                DeviceBuffer outputs = DeviceBuffer.allocate(GPU, 2 * 8 * 64 * 2);
                Cache cache = new Cache(
                        plan,
                        List.of(pages(memory, 0, bytes), pages(memory, bytes, bytes)),
                        List.of(pages(memory, 2 * bytes, bytes), pages(memory, 3 * bytes, bytes)))) {
            long s = stream.handle();
            Tensor[] t = operands(inputs, outputs);
            draw(inputs, 0);
            step(cache, t, s);
            stream.synchronize();
            GpuGraph.begin(s);
            step(cache, t, s);
            try (GpuGraph graph = GpuGraph.end(s)) {
                cache.release(0, s);
                cache.reserve(1, 32, s);
                byte[] before = bytes(memory, stream);
                draw(inputs, 1);
                graph.launch(s);
                assertThatThrownBy(cache::replayed)
                        .isInstanceOf(IllegalStateException.class)
                        .hasMessageContaining("row 0 got 0 of 1 new tokens");
                byte[] after = bytes(memory, stream);
                int page = (int) bytes / 2;
                for (int start = 0; start < after.length; start += 2 * page) {
                    assertThat(Arrays.mismatch(before, start, start + page, after, start, start + page))
                            .isEqualTo(-1);
                    assertThat(Arrays.mismatch(
                                    before, start + page, start + 2 * page, after, start + page, start + 2 * page))
                            .isNotEqualTo(-1);
                }
            }
            assertThat(cache.length(0)).isZero();
            assertThat(cache.length(1)).isEqualTo(2);
        }
    }

    private static Tensor pages(DeviceBuffer memory, long offset, long bytes) {
        return Tensor.bshd(memory.memory().slice(offset, bytes), DType.BFLOAT16, 2, 16, 2, 64);
    }

    private static void step(Cache cache, Tensor[] t, long stream) {
        for (int layer = 0; layer < 2; layer++) {
            cache.append(layer, t[1], t[2], stream);
            cache.forward(layer, t[0], t[3], null, stream);
        }
        cache.advance(stream);
    }

    /** Returns q, k and v of a token a row, and out. */
    private static Tensor[] operands(DeviceBuffer inputs, DeviceBuffer outputs) {
        return new Tensor[] {
            view(inputs, 0, 8), view(inputs, 2 * 8 * 64 * 2, 2), view(inputs, 2 * 10 * 64 * 2, 2), view(outputs, 0, 8)
        };
    }

    private static Tensor view(DeviceBuffer buffer, long offset, long heads) {
        return Tensor.bshd(buffer.memory().slice(offset, 2 * heads * 64 * 2), DType.BFLOAT16, 2, 1, heads, 64);
    }

    private static void draw(DeviceBuffer inputs, int seed) {
        Random random = new Random(seed);
        byte[] values = new byte[Math.toIntExact(inputs.bytes())];
        for (int i = 0; i < values.length; i += 2) {
            int bits = Float.floatToRawIntBits((float) random.nextGaussian());
            values[i] = (byte) (bits >>> 16);
            values[i + 1] = (byte) (bits >>> 24);
        }
        try (BytePointer host = new BytePointer(values)) {
            inputs.upload(host);
        }
    }

    private static byte[] bytes(DeviceBuffer buffer, Stream stream) {
        stream.synchronize();
        byte[] bytes = new byte[Math.toIntExact(buffer.bytes())];
        try (BytePointer host = new BytePointer(bytes.length)) {
            buffer.download(host);
            host.get(bytes);
        }
        return bytes;
    }
}
