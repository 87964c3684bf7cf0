package org.flashring.robustness;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.ToIntFunction;
import org.bytedeco.javacpp.LongPointer;
import org.flashring.internal.Native;
import org.flashring.internal.NativeStructs;
import org.flashring.internal.NativeStructs.Combine;
import org.flashring.internal.NativeStructs.Step;
import org.flashring.internal.NativeStructs.TensorView;
import org.flashring.support.Capped;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The C interface answers damaged structs with a status and a sentence that names the field, whoever sends them. */
@Capped
@Timeout(60)
class RawInterfaceTest {
    private static final ToIntFunction<Step> FORWARD = Native::forwardStep;
    private static final ToIntFunction<Step> BACKWARD = Native::backwardStep;
    private static final ToIntFunction<Step> DELTA = Native::delta;
    private static final ToIntFunction<Step> WORKSPACE =
            step -> Native.workspaceBytes(step, Native.FORWARD, new long[1]);
    private static final ToIntFunction<Step> SELECT = step -> Native.select(step, Native.FORWARD, new int[1]);
    private static final long HUGE = 1L << 57;

    /** One field broken; {@code mentions} is what the message must contain. */
    private record Damage(String name, ToIntFunction<Step> entry, Consumer<Step> damage, String mentions, int status) {
        @Override
        public String toString() {
            return name;
        }
    }

    private static Damage damage(String name, ToIntFunction<Step> entry, Consumer<Step> damage, String mentions) {
        return new Damage(name, entry, damage, mentions, Native.INVALID_ARGUMENT);
    }

    private static Damage unsupported(String name, ToIntFunction<Step> entry, Consumer<Step> damage, String mentions) {
        return new Damage(name, entry, damage, mentions, Native.UNSUPPORTED);
    }

    static List<Damage> damages() {
        List<Damage> all = new ArrayList<>(List.of(
                damage("size 0", FORWARD, s -> s.size(0), "flashring_step.size = 0"),
                damage(
                        "size below that of the first release",
                        BACKWARD,
                        s -> s.size(256),
                        "flashring_step.size = 256 "),
                damage("size of no struct", DELTA, s -> s.size(1 << 20), "flashring_step.size = 1048576 "),
                damage("size 0 asked for workspace", WORKSPACE, s -> s.size(0), "flashring_step.size"),
                damage("size 0 asked for a kernel", SELECT, s -> s.size(0), "flashring_step.size"),
                damage("device -2", FORWARD, s -> s.device(-2), "device = -2"),
                unsupported("device 100", FORWARD, s -> s.device(100), "device"),
                unsupported("device 100 of delta", DELTA, s -> s.device(100), "device"),
                damage("dtype -1", FORWARD, s -> s.dtype(-1), "dtype = -1"),
                damage("dtype 4", BACKWARD, s -> s.dtype(4), "dtype = 4"),
                damage("kernel -1", FORWARD, s -> s.kernel(-1), "kernel = -1"),
                damage("kernel 99", SELECT, s -> s.kernel(99), "kernel = 99"),
                damage("flags unknown", FORWARD, s -> s.flags(64), "flags = 0x40"),
                damage("flags all", BACKWARD, s -> s.flags(-1), "flags = 0xffffffff"),
                damage("deterministic 2", BACKWARD, s -> s.deterministic(2), "deterministic = 2"),
                damage("batch 0", FORWARD, s -> s.batch(0), "batch = 0"),
                damage("batch -1", DELTA, s -> s.batch(-1), "batch = -1"),
                damage("batch huge", BACKWARD, s -> s.batch(HUGE), "overflow"),
                damage("q_len -1", FORWARD, s -> s.queryLength(-1), "q_len = -1"),
                damage("q_len not that of the positions", FORWARD, s -> s.queryLength(4), "q_len = 4"),
                damage("q_len huge", WORKSPACE, s -> s.queryLength(HUGE), "overflow"),
                damage("kv_len -1", BACKWARD, s -> s.keyLength(-1), "kv_len = -1"),
                damage("kv_len not that of the positions", BACKWARD, s -> s.keyLength(6), "kv_len = 6"),
                damage("kv_len greatest", WORKSPACE, s -> s.keyLength(Long.MAX_VALUE), "overflow"),
                damage("q_heads 0", FORWARD, s -> s.queryHeads(0), "q_heads = 0"),
                damage("q_heads not whole groups", FORWARD, s -> s.queryHeads(3), "q_heads = 3"),
                damage("q_heads huge", BACKWARD, s -> s.queryHeads(HUGE), "overflow"),
                damage("kv_heads 0", FORWARD, s -> s.kvHeads(0), "kv_heads = 0"),
                damage("kv_heads negative", BACKWARD, s -> s.kvHeads(-2), "kv_heads = -2"),
                damage("head_dim 0", FORWARD, s -> s.headDim(0), "head_dim = 0"),
                unsupported("head_dim 513", FORWARD, s -> s.headDim(513), "513"),
                damage("head_dim huge", SELECT, s -> s.headDim(HUGE), "overflow"),
                damage("value_dim negative", BACKWARD, s -> s.valueDim(-6), "value_dim = -6"),
                unsupported("value_dim 600", SELECT, s -> s.valueDim(600), "600"),
                damage("scale 0", FORWARD, s -> s.softmaxScale(0), "softmax_scale = 0"),
                damage("scale negative", BACKWARD, s -> s.softmaxScale(-1), "softmax_scale = -1"),
                damage("scale NaN", FORWARD, s -> s.softmaxScale(Double.NaN), "softmax_scale"),
                damage(
                        "scale infinite",
                        BACKWARD,
                        s -> s.softmaxScale(Double.POSITIVE_INFINITY),
                        "softmax_scale = inf"),
                damage("q_positions null", FORWARD, s -> s.queryPositions().ranges(0), "q_positions.ranges"),
                damage("q_positions count -1", FORWARD, s -> s.queryPositions().count(-1), "q_positions.count = -1"),
                damage("q_positions count 0", BACKWARD, s -> s.queryPositions().count(0), "q_positions"),
                damage(
                        "q_positions cut short",
                        BACKWARD,
                        s -> s.queryPositions().count(1),
                        "q_positions"),
                damage("kv_positions null", BACKWARD, s -> s.keyPositions().ranges(0), "kv_positions.ranges"),
                damage(
                        "kv_positions count least",
                        FORWARD,
                        s -> s.keyPositions().count(Long.MIN_VALUE),
                        "kv_positions.count"),
                damage("kv_positions cut short", FORWARD, s -> s.keyPositions().count(1), "kv_positions"),
                damage("documents negative", FORWARD, s -> s.mask().documents(-1), "mask.documents = -1"),
                damage("documents without offsets", BACKWARD, s -> s.mask().cuSeqlens(0), "mask.documents = 2"),
                damage("stream on the host", FORWARD, s -> s.stream(64), "stream"),
                damage("stream of delta on the host", DELTA, s -> s.stream(64), "stream"),
                damage("workspace null", FORWARD, s -> s.workspace(0), "workspace must not be null"),
                damage("workspace misaligned", BACKWARD, s -> s.workspace(s.workspace() + 8), "workspace"),
                damage("workspace too small", FORWARD, s -> s.workspaceBytes(8), "workspace_bytes = 8"),
                damage("workspace negative", BACKWARD, s -> s.workspaceBytes(-1), "workspace_bytes = -1"),
                damage(
                        "acc null though resumed",
                        FORWARD,
                        s -> s.flags(Native.RESUME | Native.FINISH).acc().data(0),
                        "acc.data"),
                damage(
                        "acc null though unfinished",
                        FORWARD,
                        s -> s.flags(0).acc().data(0),
                        "acc.data"),
                damage(
                        "acc is out with other strides",
                        FORWARD,
                        s -> s.acc().data(s.out().data()).strideBatch(HUGE >> 10),
                        "acc"),
                damage("out is q", FORWARD, s -> s.out().data(s.q().data()), "out.data"),
                damage("lse is v", FORWARD, s -> s.lse().data(s.v().data()), "lse.data"),
                damage("delta is dout", DELTA, s -> s.delta().data(s.dout().data()), "delta.data"),
                damage("dq is dk", BACKWARD, s -> s.dq().data(s.dk().data()), "dq.data"),
                damage("dv is k", BACKWARD, s -> s.dv().data(s.k().data()), "dv.data"),
                damage("dk is lse", BACKWARD, s -> s.dk().data(s.lse().data()), "dk.data")));
        addTensors(all, FORWARD, "forward", new int[] {0, 1, 2}, new int[] {3, 5});
        addTensors(all, DELTA, "delta", new int[] {3, 6}, new int[] {7});
        addTensors(all, BACKWARD, "backward", new int[] {0, 1, 2, 5, 6, 7}, new int[] {8, 9, 10});
        return all;
    }

    private static final String[] NAMES = {"q", "k", "v", "out", "acc", "lse", "dout", "delta", "dq", "dk", "dv"};

    private static TensorView view(Step s, int tensor) {
        return switch (tensor) {
            case 0 -> s.q();
            case 1 -> s.k();
            case 2 -> s.v();
            case 3 -> s.out();
            case 4 -> s.acc();
            case 5 -> s.lse();
            case 6 -> s.dout();
            case 7 -> s.delta();
            case 8 -> s.dq();
            case 9 -> s.dk();
            default -> s.dv();
        };
    }

    private static void addTensors(
            List<Damage> all, ToIntFunction<Step> entry, String pass, int[] inputs, int[] outputs) {
        for (int i : inputs) {
            addTensor(all, entry, pass, i);
        }
        for (int i : outputs) {
            String name = NAMES[i];
            addTensor(all, entry, pass, i);
            all.add(damage(
                    pass + ": " + name + " heads overlap",
                    entry,
                    s -> view(s, i).strideHead(0),
                    name + ".stride_"));
            all.add(damage(
                    pass + ": " + name + " tokens overlap",
                    entry,
                    s -> view(s, i).strideSeq(1),
                    name + ".stride_"));
            all.add(damage(
                    pass + ": " + name + " rows overlap", entry, s -> view(s, i).strideBatch(0), name + ".stride_"));
        }
    }

    private static void addTensor(List<Damage> all, ToIntFunction<Step> entry, String pass, int i) {
        String name = NAMES[i];
        all.add(damage(pass + ": " + name + " null", entry, s -> view(s, i).data(0), name + ".data must not be null"));
        all.add(damage(
                pass + ": " + name + " misaligned",
                entry,
                s -> view(s, i).data(view(s, i).data() + 2),
                name + ".data"));
        all.add(damage(
                pass + ": " + name + " batch stride negative",
                entry,
                s -> view(s, i).strideBatch(-1),
                name + ".stride_batch = -1"));
        all.add(damage(
                pass + ": " + name + " token stride negative",
                entry,
                s -> view(s, i).strideSeq(-8),
                name + ".stride_seq = -8"));
        all.add(damage(
                pass + ": " + name + " head stride overflows",
                entry,
                s -> view(s, i).strideHead(Long.MAX_VALUE),
                name + ".stride_head"));
        all.add(damage(
                pass + ": " + name + " token stride huge",
                entry,
                s -> view(s, i).strideSeq(HUGE),
                name + ".stride_seq"));
    }

    @Test
    void theStructIsFineUntilItIsDamaged() {
        try (RawStep raw = new RawStep()) {
            for (ToIntFunction<Step> entry : List.of(FORWARD, BACKWARD, DELTA, WORKSPACE, SELECT)) {
                assertThat(entry.applyAsInt(raw.step())).as(Native.lastError()).isEqualTo(Native.OK);
            }
        }
    }

    @Test
    void thereAreAtLeast60Damages() {
        assertThat(damages())
                .hasSizeGreaterThanOrEqualTo(60)
                .extracting(Damage::name)
                .doesNotHaveDuplicates();
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("damages")
    void isAnsweredWithAStatusAndTheFieldsName(Damage damage) {
        try (RawStep raw = new RawStep()) {
            damage.damage().accept(raw.step());
            assertThat(damage.entry().applyAsInt(raw.step())).isEqualTo(damage.status());
            assertThat(Native.lastError()).contains(damage.mentions());
        }
    }

    @Test
    void brokenTablesAreRefused() {
        long[][] badRanges = {
            {-1, 5, 1},
            {0, -5, 1},
            {0, 5, 0},
            {0, 5, -1},
            {0, 3, 1, 2, 2, 1},
            {3, 2, 1, 0, 3, 1},
            {0, 5, 1L << 60},
            {Long.MAX_VALUE, 5, 1},
            {0, Long.MAX_VALUE, 1}
        };
        long[][] badOffsets = {{1, 2, 5}, {-1, 2, 5}, {0, 5, 2}, {0, -1, 5}};
        long[][] badPrefixes = {{-1, 0}, {0, Long.MIN_VALUE}};
        try (RawStep raw = new RawStep()) {
            for (long[] ranges : badRanges) {
                try (LongPointer table = new LongPointer(ranges)) {
                    raw.reset().queryPositions().ranges(table.address()).count(ranges.length / 3);
                    assertRefused(FORWARD.applyAsInt(raw.step()), "q_positions");
                    raw.reset().keyPositions().ranges(table.address()).count(ranges.length / 3);
                    assertRefused(BACKWARD.applyAsInt(raw.step()), "kv_positions");
                }
            }
            for (long[] offsets : badOffsets) {
                try (LongPointer table = new LongPointer(offsets)) {
                    raw.reset().mask().cuSeqlens(table.address());
                    assertRefused(FORWARD.applyAsInt(raw.step()), "mask.cu_seqlens[");
                }
            }
            for (long[] prefixes : badPrefixes) {
                try (LongPointer table = new LongPointer(prefixes)) {
                    raw.reset().mask().prefixLengths(table.address());
                    assertRefused(BACKWARD.applyAsInt(raw.step()), "mask.prefix_lengths[");
                }
            }
        }
    }

    @Test
    void nullsAndNumbersOutOfRangeAreRefused() {
        try (RawStep raw = new RawStep();
                NativeStructs.CapabilityRow row = Native.newCapabilityRow()) {
            assertRefused(Native.forwardStep(null), "step must not be null");
            assertRefused(Native.backwardStep(null), "step must not be null");
            assertRefused(Native.delta(null), "step must not be null");
            assertRefused(Native.combine(null), "args must not be null");
            assertRefused(Native.workspaceBytes(null, 0, new long[1]), "step must not be null");
            assertRefused(Native.workspaceBytes(raw.step(), 0, null), "bytes must not be null");
            assertRefused(Native.workspaceBytes(raw.step(), 2, new long[1]), "direction = 2");
            assertRefused(Native.select(null, 0, new int[1]), "step must not be null");
            assertRefused(Native.select(raw.step(), 0, null), "row must not be null");
            assertRefused(Native.select(raw.step(), -1, new int[1]), "direction = -1");
            assertRefused(Native.capabilityGet(-1, row), "row = -1");
            assertRefused(Native.capabilityGet(Native.capabilityCount(), row), "row = " + Native.capabilityCount());
            assertRefused(Native.capabilityGet(0, null), "capability must not be null");
            assertRefused(Native.capabilityGet(0, row.size(8)), "flashring_capability.size = 8");
            assertRefused(Native.setThreads(0), "threads = 0");
            assertThat(Native.hostAllocate(-1)).isZero();
            assertThat(Native.hostAllocate(Long.MAX_VALUE)).isZero();
        }
    }

    @Test
    void brokenCombinationsAreRefused() {
        try (RawStep raw = new RawStep();
                Combine args = Native.newCombine()) {
            List<Consumer<Combine>> damages = List.of(
                    c -> c.size(0),
                    c -> c.device(-2),
                    c -> c.dstDType(4),
                    c -> c.aDType(-1),
                    c -> c.bDType(9),
                    c -> c.batch(-1),
                    c -> c.length(-1),
                    c -> c.heads(-1),
                    c -> c.dim(-1),
                    c -> c.batch(HUGE),
                    c -> c.dim(Long.MAX_VALUE),
                    c -> c.dst().data(0),
                    c -> c.a().data(0),
                    c -> c.dst().data(c.dst().data() + 1),
                    c -> c.a().data(c.a().data() + 2),
                    c -> c.b().data(c.b().data() + 2),
                    c -> c.dst().strideHead(0),
                    c -> c.a().strideSeq(-1),
                    c -> c.b().strideBatch(Long.MIN_VALUE),
                    c -> c.stream(64),
                    c -> c.a().data(c.dst().data()).strideSeq(99),
                    c -> c.bDType(3).b().data(c.dst().data()));
            String[] mentions = {
                "size = 0",
                "device = -2",
                "dst_dtype = 4",
                "a_dtype = -1",
                "b_dtype = 9",
                "batch = -1",
                "length = -1",
                "heads = -1",
                "dim = -1",
                "overflow",
                "overflow",
                "dst.data",
                "a.data",
                "dst.data",
                "a.data",
                "b.data",
                "dst.stride_head = 0",
                "a.stride_seq = -1",
                "b.stride_batch",
                "stream",
                "dst.data",
                "dst.data"
            };
            assertThat(mentions).hasSameSizeAs(damages);
            for (int i = 0; i < mentions.length; i++) {
                good(args, raw);
                assertThat(Native.combine(args)).isEqualTo(Native.OK);
                damages.get(i).accept(args);
                assertRefused(Native.combine(args), mentions[i]);
            }
        }
    }

    private static void good(Combine args, RawStep raw) {
        args
                .size(args.sizeof())
                .device(Native.HOST)
                .dstDType(1)
                .aDType(1)
                .bDType(1)
                .batch(2)
                .length(3)
                .heads(4)
                .dim(5)
                .stream(0);
        TensorView[] views = {args.dst(), args.a(), args.b()};
        for (int i = 0; i < views.length; i++) {
            views[i].data(raw.tensors()[i].data()).strideBatch(60).strideSeq(20).strideHead(5);
        }
    }

    private static void assertRefused(int status, String mentions) {
        assertThat(status).isEqualTo(Native.INVALID_ARGUMENT);
        assertThat(Native.lastError()).contains(mentions);
    }
}
