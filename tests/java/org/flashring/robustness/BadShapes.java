package org.flashring.robustness;

import static org.flashring.robustness.BadCase.argument;
import static org.flashring.robustness.BadCase.unsupported;

import java.util.Arrays;
import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Kernel;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Score;
import org.flashring.attention.FlashAttention;
import org.flashring.plan.Gather;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Ring;
import org.flashring.plan.Ulysses;

/** Shapes, options, layouts, positions, masks and plans that break a rule. */
final class BadShapes {
    private static final AttentionShape SHAPE = AttentionShape.of(1, 4, 2, 16, DType.FLOAT32);
    private static final AttentionShape NARROW = AttentionShape.of(1, 4, 2, 16, DType.BFLOAT16);
    private static final Layout LAYOUT = Layout.zigzag(37, 4);
    private static final Mask MASK = Mask.causal();
    private static final AttentionOptions OPTIONS = AttentionOptions.defaults();
    private static final long HUGE = Long.MAX_VALUE / 2;

    private BadShapes() {}

    private static AttentionShape shape(long batch, long queryHeads, long kvHeads, long headDim, long valueDim) {
        return new AttentionShape(batch, queryHeads, kvHeads, headDim, valueDim, DType.FLOAT32);
    }

    private static Plan plan(AttentionShape shape, AttentionOptions options) {
        return Plan.of(shape, LAYOUT, MASK, options);
    }

    private static Plan plan(AttentionShape shape, Score score) {
        return Plan.of(Problem.of(shape, LAYOUT, MASK).with(score), new Ring(), OPTIONS);
    }

    private static Positions.Range range(long start, long length, long stride) {
        return new Positions.Range(start, length, stride);
    }

    private static Layout own(Positions.Range... ranks) {
        return Layout.of(
                Arrays.stream(ranks).map(range -> Positions.of(List.of(range))).toList());
    }

    static List<BadCase> cases() {
        return List.of(
                argument("shape: no batch", () -> shape(0, 4, 2, 16, 16), "batch", 0),
                argument("shape: negative batch", () -> shape(-1, 4, 2, 16, 16), "batch", -1),
                argument("shape: no query heads", () -> shape(1, 0, 2, 16, 16), "queryHeads", 0),
                argument(
                        "shape: least query heads",
                        () -> shape(1, Long.MIN_VALUE, 2, 16, 16),
                        "queryHeads",
                        Long.MIN_VALUE),
                argument("shape: no kv heads", () -> shape(1, 4, 0, 16, 16), "kvHeads", 0),
                argument("shape: negative kv heads", () -> shape(1, 4, -2, 16, 16), "kvHeads", -2),
                argument("shape: no head dim", () -> shape(1, 4, 2, 0, 16), "headDim", 0),
                argument("shape: negative head dim", () -> shape(1, 4, 2, -16, 16), "headDim", -16),
                argument("shape: no value dim", () -> shape(1, 4, 2, 16, 0), "valueDim", 0),
                argument("shape: negative value dim", () -> shape(1, 4, 2, 16, -5), "valueDim", -5),
                argument("shape: head groups not whole", () -> shape(1, 5, 2, 16, 16), "queryHeads", 5),
                argument("shape: more kv heads than query heads", () -> shape(1, 2, 4, 16, 16), "queryHeads", 2),
                argument("shape: dtype null", () -> AttentionShape.of(1, 4, 2, 16, null), "dtype", null),
                argument("score: scale 0", () -> Score.scaledBy(0), "softmaxScale", 0.0),
                argument("score: scale negative", () -> Score.scaledBy(-0.25), "softmaxScale", -0.25),
                argument(
                        "score: scale infinite",
                        () -> Score.scaledBy(Double.POSITIVE_INFINITY),
                        "softmaxScale",
                        "Infinity"),
                argument(
                        "score: scale minus infinity",
                        () -> Score.scaledBy(Double.NEGATIVE_INFINITY),
                        "softmaxScale",
                        "-Infinity"),
                argument("score: scale NaN", () -> Score.scaledBy(Double.NaN), "softmaxScale", "NaN"),
                argument(
                        "score: scale too large for float32",
                        () -> plan(SHAPE, Score.scaledBy(1e300)),
                        "softmaxScale",
                        "1.0E300"),
                argument(
                        "score: scale too small for bfloat16",
                        () -> plan(NARROW, Score.scaledBy(1e-40)),
                        "softmaxScale",
                        "1.0E-40"),
                argument("options: kernel null", () -> OPTIONS.withKernel(null), "kernel", null),
                argument(
                        "options: kernel null to the constructor",
                        () -> new AttentionOptions(true, null, null, false, false),
                        "kernel",
                        null),
                argument("options: wire type null", () -> OPTIONS.withWireDType(null), "wireDType", null),
                argument("layout: negative length", () -> Layout.contiguous(-1, 4), "length", -1),
                argument("layout: no ranks", () -> Layout.zigzag(8, 0), "worldSize", 0),
                argument("layout: negative ranks", () -> Layout.striped(8, -3), "worldSize", -3),
                argument("layout: policy null", () -> Layout.of(null, 8, 2), "policy", null),
                argument("layout: documents null", () -> Layout.of(Layout.Policy.ZIGZAG, null, 2), "cuSeqlens", null),
                argument(
                        "mask: documents of keys null",
                        () -> MASK.documents(new long[] {0, 4}, null),
                        "keyCuSeqlens",
                        null),
                argument(
                        "mask: fewer documents of keys",
                        () -> MASK.documents(new long[] {0, 4, 8}, new long[] {0, 8}),
                        "keyCuSeqlens.length",
                        2),
                argument(
                        "mask: documents of keys descend",
                        () -> MASK.documents(new long[] {0, 4, 8}, new long[] {0, 8, 7}),
                        "keyCuSeqlens[2]",
                        7),
                argument(
                        "mask: documents of queries start late",
                        () -> MASK.documents(new long[] {1, 4}, new long[] {0, 8}),
                        "queryCuSeqlens[0]",
                        1),
                argument(
                        "mask: documents overflow together",
                        () -> MASK.documents(new long[] {0, HUGE}, new long[] {0, HUGE + 9}),
                        "tokens",
                        HUGE),
                argument(
                        "mask: documents of keys after a prefix",
                        () -> MASK.prefix(3).documents(new long[] {0, 4}, new long[] {0, 8}),
                        "queryCuSeqlens",
                        "before"),
                argument("mask: packed rows: none", () -> MASK.packedRows(), "cuSeqlens.length", 0),
                argument("mask: packed rows: null", () -> MASK.packedRows((long[][]) null), "cuSeqlens", null),
                argument(
                        "mask: packed rows: one null",
                        () -> MASK.packedRows(new long[] {0, 4}, null),
                        "cuSeqlens[1]",
                        null),
                argument(
                        "mask: packed rows: one descends",
                        () -> MASK.packedRows(new long[] {0, 4}, new long[] {0, 4, 3}),
                        "cuSeqlens[1][2]",
                        3),
                argument(
                        "mask: packed rows after a prefix",
                        () -> MASK.prefix(3).packedRows(new long[] {0, 4}),
                        "cuSeqlens[0]",
                        "before"),
                argument(
                        "mask: a prefix of packed rows",
                        () -> MASK.packedRows(new long[] {0, 4}).prefix(3),
                        "prefixLengths",
                        "[3]"),
                argument(
                        "mask: packed rows: no such row",
                        () -> MASK.packedRows(new long[] {0, 4}).ofRow(1),
                        "row",
                        1),
                argument(
                        "problem: more rows than the batch",
                        () -> Problem.of(SHAPE, LAYOUT, MASK.packedRows(new long[] {0, 37}, new long[] {0, 37})),
                        "mask.rows",
                        2),
                argument("layout: positions null", () -> Layout.of((List<Positions>) null), "positions", null),
                argument("layout: positions of no rank", () -> Layout.of(List.of()), "positions.size", 0),
                argument(
                        "layout: positions of a rank null",
                        () -> Layout.of(Arrays.asList(Positions.contiguous(0, 4), null)),
                        "positions[1]",
                        null),
                argument(
                        "layout: a position on no rank",
                        () -> own(range(0, 4, 2), range(1, 1, 1), range(5, 1, 1)),
                        "position 3",
                        "on no rank"),
                argument(
                        "layout: a position on two ranks",
                        () -> own(range(0, 4, 2), range(1, 3, 2), range(4, 3, 1)),
                        "position 4",
                        "on ranks 0 and 2"),
                argument(
                        "layout: a rank within another",
                        () -> own(range(0, 9, 1), range(3, 1, 1)),
                        "position 3",
                        "on ranks 0 and 1"),
                argument(
                        "layout: positions beyond 63 bits",
                        () -> own(range(0, Long.MAX_VALUE, 1), range(Long.MAX_VALUE, 1, 1)),
                        "length",
                        Long.MAX_VALUE),
                argument(
                        "layout: documents empty",
                        () -> Layout.of(Layout.Policy.ZIGZAG, new long[0], 2),
                        "cuSeqlens.length",
                        0),
                argument(
                        "layout: documents without an end",
                        () -> Layout.of(Layout.Policy.ZIGZAG, new long[] {0}, 2),
                        "cuSeqlens.length",
                        1),
                argument(
                        "layout: documents start late",
                        () -> Layout.of(Layout.Policy.ZIGZAG, new long[] {1, 4}, 2),
                        "cuSeqlens[0]",
                        1),
                argument(
                        "layout: documents descend",
                        () -> Layout.of(Layout.Policy.ZIGZAG, new long[] {0, 4, 3}, 2),
                        "cuSeqlens[2]",
                        3),
                argument("layout: rank negative", () -> LAYOUT.positions(-1), "rank", -1),
                argument("layout: rank beyond the world", () -> LAYOUT.localLength(4), "rank", 4),
                argument("layout: position negative", () -> LAYOUT.rankOf(-1), "position", -1),
                argument("layout: position beyond the end", () -> LAYOUT.rankOf(37), "position", 37),
                argument(
                        "layout: local index of a position beyond the end",
                        () -> LAYOUT.localIndexOf(38),
                        "position",
                        38),
                argument(
                        "layout: position of an empty layout",
                        () -> Layout.striped(0, 4).rankOf(0),
                        "position",
                        0),
                argument("positions: negative start", () -> range(-1, 4, 1), "start", -1),
                argument("positions: empty range", () -> range(0, 0, 1), "length", 0),
                argument("positions: negative range", () -> range(0, -4, 1), "length", -4),
                argument("positions: no stride", () -> range(0, 4, 0), "stride", 0),
                argument("positions: extent overflows", () -> range(0, HUGE, 4), "extent", HUGE - 1),
                argument(
                        "positions: last position overflows",
                        () -> range(HUGE, 3, HUGE / 2 + 2),
                        "last position",
                        HUGE),
                argument("positions: list null", () -> Positions.of(null), "ranges", null),
                argument(
                        "positions: element null",
                        () -> Positions.of(Arrays.asList(range(0, 1, 1), null)),
                        "ranges element",
                        null),
                argument(
                        "positions: ranges overlap",
                        () -> Positions.of(List.of(range(0, 4, 2), range(6, 2, 1))),
                        "ranges[1].start",
                        6),
                argument(
                        "positions: ranges descend",
                        () -> Positions.of(List.of(range(5, 2, 1), range(0, 2, 1))),
                        "ranges[1].start",
                        0),
                argument("positions: negative start of an interval", () -> Positions.contiguous(-2, 4), "start", -2),
                argument("positions: negative length of an interval", () -> Positions.contiguous(2, -4), "length", -4),
                argument(
                        "positions: local index negative",
                        () -> LAYOUT.positions(1).position(-1),
                        "local",
                        -1),
                argument(
                        "positions: local index beyond the end",
                        () -> LAYOUT.positions(1).position(9),
                        "local",
                        9),
                argument("mask: rows of no token", () -> MASK.paddedRows(0, 0), "rowLength", 0),
                argument("mask: rows null", () -> MASK.paddedRows(4, (long[]) null), "lengths", null),
                argument("mask: no rows", () -> MASK.paddedRows(4), "lengths.length", 0),
                argument("mask: row of negative length", () -> MASK.paddedRows(4, 2, -1), "lengths[1]", -1),
                argument("mask: row longer than rows are", () -> MASK.paddedRows(4, 4, 5), "lengths[1]", 5),
                argument("mask: rows overflow", () -> MASK.paddedRows(HUGE, 1, 1, 1), "tokens", HUGE),
                argument("mask: rows after a prefix", () -> MASK.prefix(3).paddedRows(4, 2), "lengths", "prefix"),
                argument("mask: documents null", () -> MASK.documents((long[]) null), "cuSeqlens", null),
                argument("mask: documents empty", () -> MASK.documents(), "cuSeqlens.length", 0),
                argument("mask: documents without an end", () -> MASK.documents(0), "cuSeqlens.length", 1),
                argument("mask: documents start late", () -> MASK.documents(2, 5), "cuSeqlens[0]", 2),
                argument("mask: documents start below 0", () -> MASK.documents(-2, 5), "cuSeqlens[0]", -2),
                argument("mask: documents descend", () -> MASK.documents(0, 5, 4, 9), "cuSeqlens[2]", 4),
                argument(
                        "mask: documents after the prefix",
                        () -> MASK.prefix(3).documents(0, 5),
                        "cuSeqlens",
                        "[0, 5]"),
                argument("mask: prefix null", () -> MASK.prefix((long[]) null), "prefixLengths", null),
                argument("mask: prefix of no document", () -> MASK.prefix(), "prefixLengths.length", 0),
                argument("mask: prefix of too many documents", () -> MASK.prefix(1, 2), "prefixLengths.length", 2),
                argument(
                        "mask: prefix of too few documents",
                        () -> MASK.documents(0, 3, 5).prefix(1),
                        "prefixLengths.length",
                        1),
                argument("mask: prefix negative", () -> MASK.documents(0, 3, 5).prefix(1, -1), "prefixLengths[1]", -1),
                argument("score: null", () -> plan(SHAPE, (Score) null), "score", null),
                argument("strategy: gather of no heads", () -> new Gather(0), "heads", 0),
                argument("strategy: ulysses of no ranks", () -> new Ulysses(0, new Ring()), "ranks", 0),
                argument("strategy: ulysses without another", () -> new Ulysses(2, null), "inner", null),
                argument("strategy: ulysses twice", () -> new Ulysses(2, new Ulysses()), "inner", "ulysses"),
                argument(
                        "strategy: ulysses of more ranks than heads",
                        () -> Plan.of(Problem.of(shape(1, 2, 1, 16, 16), LAYOUT, MASK), new Ulysses(), OPTIONS),
                        "ranks of ulysses",
                        4),
                argument("layout: groups null", () -> LAYOUT.grouped(null), "groups", null),
                argument(
                        "layout: groups without rank 3",
                        () -> LAYOUT.grouped(List.of(List.of(0, 1), List.of(2))),
                        "groups",
                        List.of(List.of(0, 1), List.of(2))),
                argument("plan: problem null", () -> Plan.of(null, new Ring(), OPTIONS), "problem", null),
                argument(
                        "plan: strategy null",
                        () -> Plan.of(Problem.of(SHAPE, LAYOUT, MASK), null, OPTIONS),
                        "strategy",
                        null),
                argument("plan: shape null", () -> plan(null, OPTIONS), "shape", null),
                argument("plan: layout null", () -> Plan.of(SHAPE, null, MASK, OPTIONS), "queries", null),
                argument("plan: keys null", () -> Plan.of(SHAPE, LAYOUT, null, MASK, OPTIONS), "keys", null),
                argument("plan: mask null", () -> Plan.of(SHAPE, LAYOUT, null, OPTIONS), "mask", null),
                argument("plan: options null", () -> plan(SHAPE, (AttentionOptions) null), "options", null),
                argument(
                        "plan: worlds differ",
                        () -> Plan.of(SHAPE, LAYOUT, Layout.zigzag(37, 3), MASK, OPTIONS),
                        "keys.worldSize",
                        3),
                argument(
                        "plan: wire type foreign to float32",
                        () -> plan(SHAPE, OPTIONS.withWireDType(DType.BFLOAT16)),
                        "wireDType",
                        "BFLOAT16"),
                argument(
                        "plan: wire type foreign to bfloat16",
                        () -> plan(NARROW, OPTIONS.withWireDType(DType.FLOAT16)),
                        "wireDType",
                        "FLOAT16"),
                argument(
                        "plan: wire type too wide",
                        () -> plan(NARROW, OPTIONS.withWireDType(DType.FLOAT64)),
                        "wireDType",
                        "FLOAT64"),
                argument(
                        "plan: batch and heads overflow",
                        () -> plan(shape(HUGE, 4, 2, 16, 16), OPTIONS),
                        "batch",
                        HUGE),
                argument(
                        "plan: heads and length overflow",
                        () -> plan(shape(HUGE / 2, 2, 2, 16, 16), OPTIONS),
                        "length",
                        37),
                argument("plan: bytes overflow", () -> plan(shape(1L << 52, 4, 2, 16, 16), OPTIONS), "bytes", 128),
                argument("plan: rank negative", () -> plan(SHAPE, OPTIONS).bytesHeld(-1), "rank", -1),
                argument(
                        "plan: rank beyond the world",
                        () -> plan(SHAPE, OPTIONS).visiblePairs(4, 0),
                        "rank",
                        4),
                argument(
                        "plan: source of a rank beyond the world",
                        () -> plan(SHAPE, OPTIONS).source(4, 0),
                        "rank",
                        4),
                argument(
                        "plan: source in a step beyond the ring",
                        () -> plan(SHAPE, OPTIONS).source(0, 4),
                        "step",
                        4),
                argument(
                        "plan: work in a negative step",
                        () -> plan(SHAPE, OPTIONS).computes(0, -1),
                        "step",
                        -1),
                argument(
                        "plan: work of a rank beyond the world",
                        () -> plan(SHAPE, OPTIONS).computes(4, 0),
                        "rank",
                        4),
                argument(
                        "plan: last work of a rank beyond the world",
                        () -> plan(SHAPE, OPTIONS).lastComputed(-1),
                        "rank",
                        -1),
                unsupported("plan: head dim too large", () -> plan(shape(1, 4, 2, 513, 16), OPTIONS), "513"),
                unsupported("plan: value dim too large", () -> plan(shape(1, 4, 2, 16, 600), OPTIONS), "600"),
                unsupported(
                        "plan: kernel that does not serve the type",
                        () -> plan(SHAPE, OPTIONS.withKernel(Kernel.AMX)),
                        "amx",
                        "float32"),
                argument("attention: shape null", () -> new FlashAttention(null, 8, MASK), "shape", null),
                argument("attention: negative length", () -> new FlashAttention(SHAPE, -8, MASK), "length", -8),
                argument("attention: mask null", () -> new FlashAttention(SHAPE, 8, null), "mask", null),
                argument("attention: plan null", () -> new FlashAttention(null), "plan", null),
                argument("attention: plan of a ring", () -> new FlashAttention(plan(SHAPE, OPTIONS)), "worldSize", 1));
    }
}
