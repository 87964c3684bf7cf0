package org.flashring.sync;

import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.comm.Mesh;
import org.flashring.internal.Checks;

/**
 * One rank's share of a batch for next-token training, cut after the labels were shifted, so that no target is lost
 * where one shard ends and the next begins. All arrays are row-major [batch, local length].
 *
 * <pre>
 *   tokens     a b c d e f | g h       two documents, shift 1, two ranks, contiguous
 *   labels     b c d e f . | h .       "." is {@link #IGNORE_INDEX}: the last token of a document has no next one
 *   positions  0 1 2 3 4 5 | 0 1       within the document, as RoPE wants them
 *   rank 0 gets the first four columns of all three, rank 1 the last four
 * </pre>
 *
 * <p>A rank of a pipeline needs less of it: see {@link PipelineStage}. Labels further ahead, for heads that predict
 * several tokens, are those of shares with a larger shift.
 */
public final class ShardedBatch {
    /** The label of a token that has no target; PyTorch's cross entropy skips it by default. */
    public static final long IGNORE_INDEX = -100;

    private final int batch;
    private final int localLength;
    private final long[] tokens;
    private final long[] positions;
    private final long[] labels;
    private final long targets;

    /** Arrays that the stage has not are null. */
    private ShardedBatch(int batch, int localLength, long[] tokens, long[] positions, long[] labels) {
        this.batch = batch;
        this.localLength = localLength;
        this.tokens = tokens;
        this.positions = positions;
        this.labels = labels;
        long count = 0;
        for (int i = 0; labels != null && i < labels.length; i++) {
            count += labels[i] == IGNORE_INDEX ? 0 : 1;
        }
        this.targets = count;
    }

    /** Returns the share of {@code rank} when every token's target is the next one of its document. */
    public static ShardedBatch of(long[][] tokens, Layout layout, Mask mask, int rank) {
        return of(tokens, Labels.next(tokens, layout, mask), rank);
    }

    /**
     * Returns the share of {@code rank}.
     *
     * @param tokens [rows][layout.length()] token ids
     * @param labels what they learn, and how rows are cut
     * @param rank whose share
     * @throws IllegalArgumentException if an argument is null, a row has another length than the layout, or there are
     *     other rows than the mask has documents of
     */
    public static ShardedBatch of(long[][] tokens, Labels labels, int rank) {
        int rows = Checks.notNull("tokens", tokens).length;
        return of(PipelineStage.ONLY, rows, tokens, labels, rank);
    }

    /**
     * Returns what a stage of a pipeline needs of the share of {@code rank}.
     *
     * @param rows number of rows, at least 1
     * @param tokens may be null where the stage reads none, and is not read there
     * @param labels their targets may be null where the stage has no loss, and are not read there
     * @throws IllegalArgumentException as above
     */
    public static ShardedBatch of(PipelineStage stage, int rows, long[][] tokens, Labels labels, int rank) {
        Checks.notNull("stage", stage);
        Checks.atLeast(stage.hasTokens() ? "tokens.length" : "rows", rows, 1);
        return of(stage, new Mesh.Part(0, rows), rows, tokens, labels, rank);
    }

    /**
     * Returns the share of a rank of a mesh: of the rows those of its place on axis {@code dp} ({@link Mesh#part}), of
     * the columns those of its place on {@code cp}, and of that what its stage on {@code pp} needs.
     *
     * @param rows number of rows of the whole batch; with fewer than {@code dp} has ranks some have no row, nor a
     *     target
     * @param tokens [rows][layout.length()]; may be null where the stage reads none
     * @param labels whose layout says which rank of {@code cp} holds which token; their targets may be null where the
     *     stage has no loss
     * @param rank of the mesh
     * @throws IllegalArgumentException as above, or unless the layout has as many ranks as {@code cp}
     */
    public static ShardedBatch of(Mesh mesh, int rows, long[][] tokens, Labels labels, int rank) {
        PipelineStage stage = PipelineStage.of(mesh, rank);
        Checks.atLeast("rows", rows, 0);
        Layout layout = Checks.notNull("labels", labels).layout();
        Checks.equal("layout.worldSize", layout.worldSize(), mesh.size("cp"), "the size of cp in the mesh " + mesh);
        Mesh.Part part = mesh.part("dp", rank, rows);
        return of(stage, part, rows, tokens, labels, mesh.coordinate("cp", rank));
    }

    private static ShardedBatch of(
            PipelineStage stage, Mesh.Part part, int rows, long[][] tokens, Labels labels, int rank) {
        Layout layout = Checks.notNull("labels", labels).layout();
        Mask mask = labels.mask();
        long[][] targets = labels.targets();
        if (mask.rows() > 0) {
            String name = stage.hasTokens() ? "tokens.length" : "rows";
            Checks.equal(name, rows, mask.rows(), "the rows that the mask has documents of");
        }
        requireRows("tokens", stage.hasTokens(), tokens, rows, layout);
        requireRows("targets", stage.hasLabels(), targets, rows, layout);
        int batch = (int) part.count();
        int firstRow = (int) part.first();
        Positions held = layout.positions(rank);
        int length = Math.toIntExact(held.length());
        int elements = Math.multiplyExact(batch, length);
        long[] localTokens = stage.hasTokens() ? new long[elements] : null;
        long[] localPositions = new long[elements];
        long[] localLabels = stage.hasLabels() ? new long[elements] : null;
        long[] cuSeqlens = null;
        for (int row = 0; row < batch; row++) {
            if (row == 0 || mask.rows() > 0) {
                long[] documents = mask.ofRow(firstRow + row).cuSeqlens(); // a copy
                cuSeqlens = documents == null ? new long[] {0, layout.length()} : documents;
            }
            int document = 0;
            for (int i = 0; i < length; i++) {
                int position = (int) held.position(i);
                while (document + 1 < cuSeqlens.length && cuSeqlens[document + 1] <= position) {
                    document++;
                }
                boolean outside = document + 1 == cuSeqlens.length; // past every document: sees nothing, learns nothing
                long target = (long) position + labels.shift();
                boolean hasTarget = !outside && target < Math.min(cuSeqlens[document + 1], layout.length());
                int at = row * length + i;
                localPositions[at] = position - cuSeqlens[document];
                if (localTokens != null) {
                    localTokens[at] = tokens[firstRow + row][position];
                }
                if (localLabels != null) {
                    localLabels[at] = hasTarget ? targets[firstRow + row][(int) target] : IGNORE_INDEX;
                }
            }
        }
        return new ShardedBatch(batch, length, localTokens, localPositions, localLabels);
    }

    private static void requireRows(String name, boolean needed, long[][] given, int rows, Layout layout) {
        if (!needed) {
            return;
        }
        Checks.equal(name + ".length", Checks.notNull(name, given).length, rows, "the number of rows");
        for (int row = 0; row < rows; row++) {
            Checks.equal(
                    name + "[" + row + "].length",
                    Checks.notNull(name + "[" + row + "]", given[row]).length,
                    layout.length(),
                    "the layout's length");
        }
    }

    /** Returns the number of rows. */
    public int batch() {
        return batch;
    }

    /** Returns the number of tokens of each row that this rank holds. */
    public int localLength() {
        return localLength;
    }

    /**
     * Returns the token ids.
     *
     * @throws IllegalStateException if the batch is that of a stage that reads none
     */
    public long[] tokens() {
        return present("tokens", tokens).clone();
    }

    /** Returns each token's position within its document. */
    public long[] positions() {
        return positions.clone();
    }

    /**
     * Returns each token's target, or {@link #IGNORE_INDEX}.
     *
     * @throws IllegalStateException if the batch is that of a stage that has no loss
     */
    public long[] labels() {
        return present("labels", labels).clone();
    }

    private static long[] present(String name, long[] array) {
        if (array == null) {
            throw new IllegalStateException("this stage of the pipeline has no " + name);
        }
        return array;
    }

    /** Returns the number of labels that are not {@link #IGNORE_INDEX}; 0 of a stage that has no loss. */
    public long targets() {
        return targets;
    }
}
