package org.flashring.serve;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.IntPointer;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Score;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.HostBuffer;
import org.flashring.internal.RawPointer;
import org.flashring.support.HeapBytes;
import org.flashring.support.TestTensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** New tokens see the keys of all tokens before, however the cache lies in memory. */
class CacheTest {
    private static AttentionShape shape(DType dtype) {
        return new AttentionShape(3, 6, 2, 24, 16, dtype);
    }

    /** A prompt of several parts, then tokens one by one and a few at once, some rows with fewer or none. */
    private static void decode(Decoding decoding, Cache cache) {
        decoding.begin(cache);
        decoding.step(cache, 53);
        decoding.step(cache, 1);
        decoding.step(cache, 4, 4, 0, 2);
        decoding.step(cache, 30, 23, 30, 0);
        decoding.step(cache, 1);
        assertThat(cache.length(0)).isEqualTo(82);
        assertThat(cache.length(1)).isEqualTo(85);
        assertThat(cache.length(2)).isEqualTo(57);
    }

    private static CachePlan plan(DType dtype, long pageSize) {
        CachePlan plan = pageSize == 0
                ? CachePlan.contiguous(shape(dtype), 2, 90)
                : CachePlan.paged(shape(dtype), 2, 90, pageSize);
        return plan.withNewTokens(53);
    }

    private static List<Double> decoded(CachePlan plan) {
        try (Decoding decoding = new Decoding(plan, 7);
                Cache cache = new Cache(plan, Device.HOST)) {
            decode(decoding, cache);
            return decoding.results();
        }
    }

    /** Which is how the host's kernels are anyway. */
    @Test
    void batchInvarianceChangesNoBitOnTheHost() {
        assertThat(decoded(plan(DType.BFLOAT16, 16).withBatchInvariance()))
                .isEqualTo(decoded(plan(DType.BFLOAT16, 16)));
    }

    @ParameterizedTest
    @EnumSource(names = {"BFLOAT16", "FLOAT16"})
    void bytesStandForTheirValueTimesTheScaleOfTheirHead(DType dtype) {
        List<Double> expected = decoded(plan(dtype, 0).with(CacheType.FLOAT8_E4M3));
        assertThat(decoded(plan(dtype, 16).with(CacheType.FLOAT8_E4M3))).isEqualTo(expected);
    }

    @Test
    void aCacheOfBytesIsHalfAsLarge() {
        CachePlan wide = plan(DType.BFLOAT16, 16);
        CachePlan bytes = wide.with(CacheType.FLOAT8_E4M3);
        assertThat(bytes.bytesRead(80)).isEqualTo(wide.bytesRead(80) / 2);
        assertThat(bytes.bytesByName().get("keys")).isEqualTo(2 * CachePlan.aligned(18 * 16 * 2 * 24));
    }

    @Test
    void whatACacheOfBytesDoesNotServeIsRefused() {
        assertThatThrownBy(() -> plan(DType.FLOAT32, 0).with(CacheType.FLOAT8_E4M3))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("go with a shape of BFLOAT16 or FLOAT16, not FLOAT32");
        Tensor scales = TestTensor.dense(DType.FLOAT32, 1, 1, 2, 1).tensor();
        try (Cache bytes = new Cache(plan(DType.BFLOAT16, 0).with(CacheType.FLOAT8_E4M3), Device.HOST);
                Cache wide = new Cache(plan(DType.BFLOAT16, 0), Device.HOST)) {
            assertThatThrownBy(() -> bytes.keys(0)).isInstanceOf(UnsupportedOperationException.class);
            assertThatThrownBy(() -> wide.scales(0, scales, scales))
                    .hasMessageContaining("the plan's type is OF_SHAPE");
            Tensor three = TestTensor.dense(DType.FLOAT32, 1, 1, 3, 1).tensor();
            assertThatThrownBy(() -> bytes.scales(0, scales, three)).hasMessageContaining("ofValues shape");
        }
    }

    @Test
    void scalesThatAreGoneAreNotRead() {
        CachePlan plan = plan(DType.BFLOAT16, 0).with(CacheType.FLOAT8_E4M3);
        try (Cache cache = new Cache(plan, Device.HOST)) {
            try (HostBuffer memory = HostBuffer.allocate(2 * Float.BYTES)) {
                Tensor scales = Tensor.bshd(memory.memory(), DType.FLOAT32, 1, 1, 2, 1);
                cache.scales(1, scales, scales);
            }
            AttentionShape shape = plan.shape();
            Tensor keys = TestTensor.dense(DType.BFLOAT16, shape.batch(), 1, shape.kvHeads(), shape.headDim())
                    .tensor();
            Tensor values = TestTensor.dense(DType.BFLOAT16, shape.batch(), 1, shape.kvHeads(), shape.valueDim())
                    .tensor();
            assertThatThrownBy(() -> cache.append(1, keys, values))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("scales of keys of layer 1");
        }
    }

    @ParameterizedTest
    @EnumSource(DType.class)
    void pagesChangeNoBit(DType dtype) {
        List<Double> expected = decoded(plan(dtype, 0));
        assertThat(decoded(plan(dtype, 16))).isEqualTo(expected);
        assertThat(decoded(plan(dtype, 1))).isEqualTo(expected);
    }

    @ParameterizedTest
    @CsvSource({"0, 20", "8, 20", "8, 1", "16, 64"})
    void windows(long pageSize, long window) {
        decoded(plan(DType.FLOAT64, pageSize).withWindow(window));
    }

    @Test
    void scores() {
        decoded(plan(DType.FLOAT32, 16).with(Score.scaledBy(0.3).withSoftcap(2).withSinks()));
    }

    /** The caller's memory, of whatever order: here all keys of a head side by side. */
    @ParameterizedTest
    @CsvSource({"0", "16"})
    void callersMemory(long pageSize) {
        CachePlan plan = plan(DType.FLOAT32, pageSize);
        long blocks = pageSize == 0 ? 3 : plan.pages();
        long keys = pageSize == 0 ? 90 : pageSize;
        List<TestTensor> owners = new ArrayList<>();
        List<Tensor> k = new ArrayList<>();
        List<Tensor> v = new ArrayList<>();
        for (int layer = 0; layer < 2; layer++) {
            owners.add(TestTensor.headsFirst(DType.FLOAT32, blocks, keys, 2, 24));
            k.add(owners.get(2 * layer).tensor());
            owners.add(TestTensor.padded(DType.FLOAT32, blocks, keys, 2, 16, 5));
            v.add(owners.get(2 * layer + 1).tensor());
        }
        try (Decoding decoding = new Decoding(plan, 7);
                Cache cache = new Cache(plan, k, v)) {
            assertThat(cache.keys(1)).isSameAs(k.get(1));
            decode(decoding, cache);
            assertThat(decoding.results()).isEqualTo(decoded(plan));
        }
    }

    /** 3 rows of 90 keys in 9 pages of 8: what falls behind the window serves again. */
    @Test
    void pagesBehindTheWindowAreFree() {
        CachePlan plan =
                CachePlan.paged(shape(DType.FLOAT64), 1, 90, 8).withWindow(10).withPages(9);
        try (Decoding decoding = new Decoding(plan, 3);
                Cache cache = new Cache(plan, Device.HOST)) {
            for (int i = 0; i < 90; i++) {
                decoding.step(cache, 1);
            }
            assertThat(cache.freePages()).isEqualTo(9 - 3 * 2);
        }
    }

    @Test
    void releasedRowsBeginAnew() {
        CachePlan plan =
                CachePlan.paged(shape(DType.FLOAT64), 2, 40, 8).withPages(12).withNewTokens(30);
        try (Decoding decoding = new Decoding(plan, 3);
                Cache cache = new Cache(plan, Device.HOST)) {
            decoding.step(cache, 30);
            assertThat(cache.freePages()).isZero();
            decoding.forget(cache, 1);
            assertThat(cache.length(1)).isZero();
            assertThat(cache.freePages()).isEqualTo(4);
            decoding.step(cache, 7, 3, 7, 0);
            decoding.step(cache, 1, 0, 1, 1);
            assertThat(cache.freePages()).isEqualTo(2);
        }
    }

    /** Here a length that is none, found by the native call: what it had done before counts for nothing. */
    @Test
    void anAppendThatFailsCanBeTriedAgain() {
        CachePlan plan = CachePlan.paged(shape(DType.FLOAT64), 2, 40, 8).withNewTokens(30);
        TestTensor k = TestTensor.dense(DType.FLOAT64, 3, 30, 2, 24);
        TestTensor v = TestTensor.dense(DType.FLOAT64, 3, 30, 2, 16);
        try (Decoding decoding = new Decoding(plan, 3);
                Cache cache = new Cache(plan, Device.HOST)) {
            decoding.step(cache, 2);
            IntPointer lengths =
                    new IntPointer(new RawPointer().at(cache.lengths().address()));
            lengths.put(2, -1);
            argument(() -> cache.append(0, k.tensor(), v.tensor()), "kv_lengths[2]");
            lengths.put(2, 2);
            state(cache::advance, "nothing has been appended");
            state(() -> cache.forward(0, k.tensor(), v.tensor()), "nothing has been appended");
            assertThat(cache.length(2)).isEqualTo(2);
            decoding.step(cache, 30);
            decoding.step(cache, 1);
        }
    }

    @Test
    void theHostHasOneStream() {
        CachePlan plan = CachePlan.paged(shape(DType.FLOAT32), 2, 20, 8);
        Tensor q = TestTensor.dense(DType.FLOAT32, 3, 1, 6, 24).tensor();
        Tensor k = TestTensor.dense(DType.FLOAT32, 3, 1, 2, 24).tensor();
        Tensor v = TestTensor.dense(DType.FLOAT32, 3, 1, 2, 16).tensor();
        Tensor out = TestTensor.dense(DType.FLOAT32, 3, 1, 6, 16).tensor();
        String says = "stream is 5; it must be 0 on the host";
        try (Cache cache = new Cache(plan, Device.HOST)) {
            argument(() -> cache.newLengths(new int[] {1, 1, 0}, 5), says);
            argument(() -> cache.reserve(0, 9, 5), says);
            argument(() -> cache.append(0, k, v, 5), says);
            assertThat(cache.freePages()).isEqualTo(9);
            cache.append(0, k, v);
            argument(() -> cache.forward(0, q, out, null, 5), says);
            argument(() -> cache.advance(5), says);
            cache.append(1, k, v);
            cache.advance();
            argument(() -> cache.release(0, 5), says);
            assertThat(cache.length(0)).isEqualTo(1);
            state(cache::replayed, "no step has been captured");
        }
    }

    /** Layers that share memory would see each other's keys; products that wrap would promise bytes below 0. */
    @Test
    void refusalsOfMemory() {
        CachePlan plan = CachePlan.paged(shape(DType.FLOAT32), 2, 20, 8).withPages(5);
        Tensor a = TestTensor.dense(DType.FLOAT32, 5, 8, 2, 24).tensor();
        Tensor b = TestTensor.dense(DType.FLOAT32, 5, 8, 2, 24).tensor();
        Tensor v = TestTensor.dense(DType.FLOAT32, 5, 8, 2, 16).tensor();
        Tensor w = TestTensor.dense(DType.FLOAT32, 5, 8, 2, 16).tensor();
        new Cache(plan, List.of(a, b), List.of(v, w)).close();
        argument(() -> new Cache(plan, List.of(a, a), List.of(v, w)), "it must not share memory with keys[0]");
        argument(() -> new Cache(plan, List.of(a, b), List.of(v, v)), "it must not share memory with values[0]");
        argument(
                () -> CachePlan.paged(shape(DType.FLOAT32), 2, 20, 1 << 30).withPages(1 << 22),
                "it must fit in 63 bits");
        AttentionShape manyHeads = new AttentionShape(1 << 20, 1L << 31, 1, 8, 8, DType.FLOAT32);
        argument(() -> CachePlan.contiguous(manyHeads, 1, 1 << 10).withNewTokens(1 << 10), "it must fit in 63 bits");
    }

    @Test
    void callsAllocateNothing() {
        CachePlan plan = CachePlan.paged(shape(DType.BFLOAT16), 1, 1000, 16);
        TestTensor q = TestTensor.dense(DType.BFLOAT16, 3, 1, 6, 24);
        TestTensor k = TestTensor.dense(DType.BFLOAT16, 3, 1, 2, 24);
        TestTensor v = TestTensor.dense(DType.BFLOAT16, 3, 1, 2, 16);
        TestTensor out = TestTensor.dense(DType.BFLOAT16, 3, 1, 6, 16);
        Tensor[] t = {q.tensor(), k.tensor(), v.tensor(), out.tensor()};
        try (Cache cache = new Cache(plan, Device.HOST)) {
            assertThat(HeapBytes.of(() -> {
                        cache.append(0, t[1], t[2]);
                        cache.forward(0, t[0], t[3]);
                        cache.advance();
                    }))
                    .isLessThan(HeapBytes.OF_AN_OBJECT_A_CALL);
        }
    }

    @Test
    void whatIsHeldAndReadIsKnownBefore() {
        CachePlan plan = CachePlan.paged(AttentionShape.of(4, 32, 8, 128, DType.BFLOAT16), 2, 8192, 64);
        assertThat(plan.bytesByName())
                .containsEntry("keys", 2L * 4 * 8192 * 8 * 128 * 2)
                .containsEntry("values", 2L * 4 * 8192 * 8 * 128 * 2)
                .containsEntry("page table", 4L * 128 * 4);
        assertThat(plan.bytesHeld())
                .isEqualTo(
                        plan.bytesByName().values().stream().mapToLong(x -> x).sum());
        assertThat(plan.bytesRead(1000)).isEqualTo(2L * 4 * 1000 * 8 * 256 * 2);
        assertThat(plan.withWindow(100).bytesRead(1000)).isEqualTo(2L * 4 * 100 * 8 * 256 * 2);
        assertThat(plan.bytesSent(1)).isZero();
    }

    @Test
    void refusals() {
        CachePlan plan =
                CachePlan.paged(shape(DType.FLOAT32), 2, 20, 8).withPages(5).withNewTokens(12);
        TestTensor q = TestTensor.dense(DType.FLOAT32, 3, 12, 6, 24);
        TestTensor k = TestTensor.dense(DType.FLOAT32, 3, 12, 2, 24);
        TestTensor v = TestTensor.dense(DType.FLOAT32, 3, 12, 2, 16);
        TestTensor one = TestTensor.dense(DType.FLOAT32, 3, 1, 2, 24);
        TestTensor out = TestTensor.dense(DType.FLOAT32, 3, 12, 6, 16);
        Cache cache = new Cache(plan, Device.HOST);
        state(() -> cache.append(0, k.tensor(), v.tensor()), "the cache has 5 free pages of 5, and 6 more are needed");
        state(() -> cache.forward(0, q.tensor(), out.tensor()), "nothing has been appended to layer 0");
        state(cache::advance, "nothing has been appended");
        argument(() -> cache.append(2, k.tensor(), v.tensor()), "layer is 2; it must lie in [0, 1]");
        argument(() -> cache.append(0, k.tensor(), null), "v is null");
        argument(
                () -> cache.append(0, k.tensor(), one.tensor()), "v shape is [3, 1, 2, 24]; it must be [3, 12, 2, 16]");
        argument(() -> cache.newLengths(1, 2), "ofRow.length is 2; it must be 3, one for each row");
        argument(() -> cache.newLengths(1, 2, 13), "ofRow is 13; it must lie in [0, 12]");
        argument(() -> cache.sinks(0, out.tensor()), "sinks is");
        argument(() -> cache.reserve(3, 1, 0), "row is 3; it must lie in [0, 2]");
        cache.newLengths(12, 12, 0);
        cache.append(0, k.tensor(), v.tensor());
        state(() -> cache.newLengths(), "new lengths come between steps");
        state(() -> cache.release(0, 0), "releases come between steps");
        state(() -> cache.forward(1, q.tensor(), out.tensor()), "nothing has been appended to layer 1");
        argument(() -> cache.forward(0, out.tensor(), q.tensor()), "q shape is");
        argument(() -> cache.forward(0, q.tensor(), q.tensor()), "out shape is");
        state(cache::advance, "nothing has been appended to layer 1");
        cache.append(1, k.tensor(), v.tensor());
        cache.advance();
        argument(
                () -> cache.append(0, k.tensor(), v.tensor()),
                "length of row 0 is 12 + 12; it must be at most 20, the plan's capacity");
        argument(() -> cache.append(0, one.tensor(), v.tensor()), "v shape is [3, 12");
        cache.newLengths(0, 0, 2);
        argument(
                () -> cache.append(
                        0,
                        one.tensor(),
                        TestTensor.dense(DType.FLOAT32, 3, 1, 2, 16).tensor()),
                "k.length is 1; it must be at least 2, the new length of row 2");
        cache.close();
        cache.close();
        state(cache::advance, "the Cache is closed");
        argument(() -> CachePlan.paged(shape(DType.FLOAT32), 1, 20, 0), "pageSize is 0; it must be at least 1");
        argument(() -> CachePlan.contiguous(shape(DType.FLOAT32), 0, 20), "layers is 0");
        argument(() -> CachePlan.contiguous(shape(DType.FLOAT32), 1, 1L << 31), "capacity is 2147483648");
        argument(() -> plan.withNewTokens(21), "newTokens is 21; it must lie in [1, 20]");
        argument(() -> plan.with(Score.standard().withAlibi(1, 1, 1, 1, 1, 1)), "have no ALiBi");
        argument(() -> new Cache(plan.with(plan.options().onCuda()), Device.HOST), "device is host; it must be a CUDA");
        argument(() -> new Cache(plan, List.of(k.tensor()), List.of(v.tensor())), "keys.size is 1; it must be 2");
    }

    private static void argument(Runnable call, String says) {
        assertThatThrownBy(call::run)
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining(says);
    }

    private static void state(Runnable call, String says) {
        assertThatThrownBy(call::run).isInstanceOf(IllegalStateException.class).hasMessageContaining(says);
    }
}
