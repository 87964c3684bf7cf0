package org.flashring.cli.train.dense;

import static org.flashring.cli.train.dense.Phase.ATTENTION;
import static org.flashring.cli.train.dense.Phase.ATTENTION_AGAIN;
import static org.flashring.cli.train.dense.Phase.ATTENTION_BACK;
import static org.flashring.cli.train.dense.Phase.EMBED_BACK;
import static org.flashring.cli.train.dense.Phase.HEAD;
import static org.flashring.cli.train.dense.Phase.INPUT;
import static org.flashring.cli.train.dense.Phase.INPUT_AGAIN;
import static org.flashring.cli.train.dense.Phase.INPUT_BACK;
import static org.flashring.cli.train.dense.Phase.MLP;
import static org.flashring.cli.train.dense.Phase.MLP_BACK;
import static org.flashring.cli.train.dense.Phase.UPDATE;

import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.flashring.DType;
import org.flashring.plan.Plan;

/** The blocks of one rank's step: what it holds, and when. Pure arithmetic, before anything is allocated. */
final class StepMemory {
    /** Bytes of host memory through which values come and go. */
    static final long STAGING = 1L << 20;

    /** Float64: the sum of the losses, the gradients' square sum, and losses by position. */
    static final int FIGURES = 2 + PositionLoss.FIGURES;

    /** Bytes in which a CUDA device's products work. */
    static final long WORKSPACE = 32L << 20;

    private static final int ROOMS = 2;
    private static final long ALIGNMENT = 256; // of what differs from room to room, so that products are alike

    private StepMemory() {}

    /** Returns for how many groups of parameters there is room for gradients: where they go round beside work, two. */
    static int rooms(DenseSettings settings) {
        return settings.cuda() && settings.mesh().worldSize() > 1 ? ROOMS : 1;
    }

    /** Returns the bytes of such a room. */
    static long room(Parameters parameters, DType wide) {
        long bytes = Math.multiplyExact(parameters.largestGroup(), wide.bytes());
        return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }

    /** Returns the plan of {@code rank} of the mesh: of its device's memory. */
    static MemoryPlan of(DenseSettings settings, int rank) {
        return of(settings, settings.attention(rank), rank);
    }

    /** Returns the tokens of {@code rank} of the mesh. */
    static long tokens(DenseSettings settings, int rank) {
        long rows = settings.mesh().part("dp", rank, settings.rows()).count();
        return rows * settings.layout().localLength(settings.mesh().coordinate("cp", rank));
    }

    /** Returns what is kept of a layer for its backward: the bytes of a token by block, whose slots are layers. */
    static Map<String, Long> kept(DenseSettings settings) {
        DenseModel model = settings.model();
        long narrow = settings.type().bytes();
        Map<String, Long> kept = new LinkedHashMap<>();
        kept.put("x", model.dim() * narrow);
        if (settings.recompute() != Recompute.FULL) {
            kept.put("out", model.queryWidth() * narrow);
            kept.put("lse", (long) model.heads() * settings.type().accumulator().bytes());
        }
        if (settings.recompute() == Recompute.NONE) {
            kept.put("qkv", model.qkvWidth() * narrow);
            kept.put("residual", model.dim() * narrow);
            kept.put("gate, up", 2L * model.hidden() * narrow);
        }
        return kept;
    }

    static MemoryPlan of(DenseSettings settings, Plan attention, int rank) {
        DenseModel model = settings.model();
        Parameters parameters = new Parameters(model);
        int ranks = settings.mesh().worldSize();
        int sequenceRank = settings.mesh().coordinate("cp", rank);
        long tokens = tokens(settings, rank);
        long tile = Math.min(tokens, settings.tile());
        long lossTile = Math.min(tokens, settings.lossTile());
        long narrow = settings.type().bytes();
        long wide = settings.type().accumulator().bytes();
        int slots = settings.slots();
        Map<String, Long> kept = kept(settings);
        long share = 0;
        for (int group = 0; group < parameters.groups(); group++) {
            share += parameters.shares(group, ranks)[settings.mesh().coordinate("dp x cp", rank)];
        }
        Set<Phase> backward =
                EnumSet.of(HEAD, INPUT_AGAIN, ATTENTION_AGAIN, MLP_BACK, ATTENTION_BACK, INPUT_BACK, EMBED_BACK);
        Set<Phase> stream = EnumSet.complementOf(EnumSet.of(UPDATE));
        Set<Phase> layers =
                EnumSet.complementOf(EnumSet.of(Phase.EMBED, UPDATE)); // where what is kept of one is needed
        Set<Phase> outputs = EnumSet.of(ATTENTION, MLP, ATTENTION_AGAIN, MLP_BACK, ATTENTION_BACK);
        Set<Phase> qkv = EnumSet.of(INPUT, ATTENTION, INPUT_AGAIN, ATTENTION_AGAIN, ATTENTION_BACK);
        if (settings.recompute() == Recompute.FULL) {
            qkv.add(MLP_BACK); // attention ran before it, and backward comes after
        }
        Set<Phase> tiles = EnumSet.of(INPUT, MLP, HEAD, INPUT_AGAIN, MLP_BACK, INPUT_BACK);
        Set<Phase> mlp = EnumSet.of(MLP, MLP_BACK);
        Map<String, Long> outside = new LinkedHashMap<>();
        outside.put("attention", attention.bytesHeld(sequenceRank));
        if (settings.cuda()) {
            outside.put("workspace", WORKSPACE);
        } else {
            outside.put("staging", STAGING);
            if (settings.offload()) {
                outside.put("offloaded", OffloadedLayers.bytes(settings, tokens));
            }
        }
        MemoryPlan.Builder plan = new MemoryPlan.Builder()
                .always("weights", parameters.elements() * narrow)
                .always("master", share * wide)
                .always("mean", share * wide)
                .always("square mean", share * wide)
                .always("gradient share", share * wide)
                .during(
                        "gradients",
                        rooms(settings) * room(parameters, settings.type().accumulator()),
                        backward)
                .always("batch", BatchBlock.bytes(tokens))
                .always("losses", tokens * Double.BYTES)
                .always("figures", (long) FIGURES * Double.BYTES)
                .during("angles", tokens * model.headDim() * wide, stream)
                .during("x", (slots + 1L) * tokens * kept.get("x"), stream)
                .during("dout", tokens * model.queryWidth() * narrow, EnumSet.of(MLP_BACK, ATTENTION_BACK))
                .during("dqkv", tokens * model.qkvWidth() * narrow, EnumSet.of(ATTENTION_BACK, INPUT_BACK))
                .during("tile: norm", Math.max(tile, lossTile) * model.dim() * narrow, tiles)
                .during("tile: 1 / rms", Math.max(tile, lossTile) * wide, tiles)
                .during(
                        "tile: dnorm",
                        Math.max(tile, lossTile) * model.dim() * narrow,
                        EnumSet.of(HEAD, MLP_BACK, INPUT_BACK))
                .during("tile: act", tile * model.hidden() * narrow, mlp)
                .during("tile: dact", tile * model.hidden() * narrow, EnumSet.of(MLP_BACK))
                .during("tile: logits", lossTile * model.vocabulary() * narrow, EnumSet.of(HEAD));
        List<MemoryPlan.Block> once = List.of( // which one layer uses after the other, unless they are kept
                new MemoryPlan.Block("out", tokens * model.queryWidth() * narrow, outputs),
                new MemoryPlan.Block("lse", tokens * model.heads() * wide, outputs),
                new MemoryPlan.Block("qkv", tokens * model.qkvWidth() * narrow, qkv),
                new MemoryPlan.Block("residual", tile * model.dim() * narrow, mlp),
                new MemoryPlan.Block("gate, up", 2 * tile * model.hidden() * narrow, mlp));
        for (MemoryPlan.Block block : once) {
            Long ofToken = kept.get(block.name());
            if (ofToken == null) {
                plan.during(block.name(), block.bytes(), block.phases());
            } else {
                plan.during(block.name(), slots * tokens * ofToken, layers);
            }
        }
        return plan.build(outside);
    }
}
