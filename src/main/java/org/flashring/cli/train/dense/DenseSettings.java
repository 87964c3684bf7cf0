package org.flashring.cli.train.dense;

import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.comm.Mesh;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Strategy;

/**
 * What decides a step of training, the tokens apart.
 *
 * @param model sizes
 * @param type of weights and activations
 * @param mesh of dp ranks, which share the rows of a batch, times cp ranks, which share each row
 * @param rows sequences of a step, over all ranks
 * @param policy which rank holds which tokens
 * @param documents offsets of the documents that each row is packed of; {0, length} for one
 * @param window keys that a query sees, its own included; 0 for all before it
 * @param strategy how keys come to the queries of all ranks
 * @param recompute what backward computes again
 * @param headGroups parts of the heads between which attention's working memory is shared, a divisor of kvHeads
 * @param tile tokens that dense layers take at a time
 * @param lossTile tokens whose logits are there at a time
 * @param cuda whether ranks are CUDA devices rather than the host
 * @param offload whether what is kept of a layer waits for backward in the host's memory
 */
public record DenseSettings(
        DenseModel model,
        DType type,
        Mesh mesh,
        int rows,
        Layout.Policy policy,
        long[] documents,
        int window,
        Strategy strategy,
        Recompute recompute,
        int headGroups,
        int tile,
        int lossTile,
        boolean cuda,
        boolean offload) {
    static final int TILE = 16_384;
    static final int LOSS_TILE = 4096;

    /** @throws IllegalArgumentException if a number is out of range */
    public DenseSettings {
        documents = documents.clone();
        if (mesh.size("dp x cp") < mesh.worldSize()) {
            throw broken("mesh", mesh, "be of dp and cp alone: the model is whole on every rank");
        }
        if (rows < mesh.dataParallelSize()) {
            throw broken("rows", rows, "be at least " + mesh.dataParallelSize() + ", one for each rank of dp");
        }
        if (headGroups < 1 || model.kvHeads() % headGroups != 0) {
            throw broken("headGroups", headGroups, "be a divisor of kvHeads = " + model.kvHeads());
        }
        if (tile < 1) {
            throw broken("tile", tile, "be at least 1");
        }
        if (lossTile < 1) {
            throw broken("lossTile", lossTile, "be at least 1");
        }
        if (window < 0) {
            throw broken("window", window, "be at least 0");
        }
    }

    /** Makes those of ranks on the host. */
    public DenseSettings(
            DenseModel model,
            DType type,
            Mesh mesh,
            int rows,
            Layout.Policy policy,
            long[] documents,
            int window,
            Strategy strategy,
            Recompute recompute,
            int headGroups,
            int tile,
            int lossTile) {
        this(
                model,
                type,
                mesh,
                rows,
                policy,
                documents,
                window,
                strategy,
                recompute,
                headGroups,
                tile,
                lossTile,
                false,
                false);
    }

    private static IllegalArgumentException broken(String name, Object value, String rule) {
        return new IllegalArgumentException(name + " is " + value + "; it must " + rule);
    }

    /** Returns the settings of rows of one document each, with the usual tiles, nothing computed twice but dense. */
    public static DenseSettings of(
            DenseModel model, DType type, Mesh mesh, int rows, Layout.Policy policy, long length, Strategy strategy) {
        return new DenseSettings(
                model,
                type,
                mesh,
                rows,
                policy,
                new long[] {0, length},
                0,
                strategy,
                Recompute.KEEP,
                1,
                TILE,
                LOSS_TILE);
    }

    /** Returns the offsets of the documents. */
    @Override
    public long[] documents() {
        return documents.clone();
    }

    /** Returns the tokens of a row, over all ranks. */
    public long length() {
        return documents[documents.length - 1];
    }

    /** Returns the same but for what backward computes again. */
    public DenseSettings with(Recompute other) {
        return copy(type, documents, other, headGroups, lossTile, cuda, offload);
    }

    /** Returns the same with another number of head groups. */
    public DenseSettings withHeadGroups(int groups) {
        return copy(type, documents, recompute, groups, lossTile, cuda, offload);
    }

    /** Returns the same for rows of one document of another length. */
    public DenseSettings withLength(long length) {
        return copy(type, new long[] {0, length}, recompute, headGroups, lossTile, cuda, offload);
    }

    /** Returns the same with weights and activations of another type. */
    public DenseSettings with(DType other) {
        return copy(other, documents, recompute, headGroups, lossTile, cuda, offload);
    }

    /** Returns the same for ranks on CUDA devices, with the usual number of logits for them. */
    public DenseSettings onCuda() {
        return copy(type, documents, recompute, headGroups, LOSS_TILE, true, offload);
    }

    /** Returns the same, with what is kept of a layer in the host's memory or not. */
    public DenseSettings withOffload(boolean other) {
        return copy(type, documents, recompute, headGroups, lossTile, cuda, other);
    }

    private DenseSettings copy(
            DType newType,
            long[] newDocuments,
            Recompute newRecompute,
            int newHeadGroups,
            int newLossTile,
            boolean onCuda,
            boolean offloaded) {
        return new DenseSettings(
                model,
                newType,
                mesh,
                rows,
                policy,
                newDocuments,
                window,
                strategy,
                newRecompute,
                newHeadGroups,
                tile,
                newLossTile,
                onCuda,
                offloaded);
    }

    /** Returns of how many layers what is kept for backward lies on the device at a time. */
    int slots() {
        return offload ? Math.min(OffloadedLayers.SLOTS, model.layers()) : model.layers();
    }

    /** Returns which rank of cp holds which tokens of a row. */
    Layout layout() {
        return Layout.of(policy, documents, mesh.size("cp"));
    }

    /** Returns which keys a query sees. */
    Mask mask() {
        Mask mask = window == 0 ? Mask.causal() : Mask.causal().window(window - 1L, 0);
        return documents.length == 2 ? mask : mask.documents(documents);
    }

    /** Returns the plan of attention of one group of heads, on {@code rank} of the mesh. */
    Plan attention(int rank) {
        int batch = (int) mesh.part("dp", rank, rows).count();
        AttentionShape shape = AttentionShape.of(
                batch, model.heads() / headGroups, model.kvHeads() / headGroups, model.headDim(), type);
        return Plan.of(
                Problem.of(shape, layout(), mask()),
                strategy,
                cuda ? AttentionOptions.defaults().onCuda() : AttentionOptions.defaults());
    }
}
