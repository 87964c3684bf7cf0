package org.flashring.cli.train;

import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.comm.Mesh;
import org.flashring.internal.Checks;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Strategy;

/**
 * Everything that decides a training run, the text apart. What is wrong with it is said of the options that it comes
 * from.
 *
 * @param model size of the transformer
 * @param mesh of dp ranks, which share the sequences of a step, times cp ranks, which share each sequence
 * @param steps optimizer steps
 * @param context bytes of each sequence, over all ranks
 * @param batch sequences per step
 * @param learningRate of AdamW
 * @param layout which rank holds which bytes
 * @param window keys that a query sees, its own included; 0 for all before it
 * @param seed of the parameters and of the choice of sequences
 * @param strategy how keys come to the queries of all ranks
 */
record Settings(
        Model model,
        Mesh mesh,
        int steps,
        int context,
        int batch,
        double learningRate,
        Layout.Policy layout,
        int window,
        long seed,
        Strategy strategy) {
    static final int MOST_RANKS = 1024; // threads of this process

    /** @throws IllegalArgumentException if a number is out of range */
    Settings {
        Checks.notNull("model", model);
        Checks.between("ranks of --mesh", Checks.notNull("mesh", mesh).worldSize(), 1, MOST_RANKS);
        if (mesh.size("dp x cp") < mesh.worldSize()) {
            throw Checks.broken("--mesh", mesh, "be of dp and cp alone: the model is whole on every rank");
        }
        Checks.atLeast("--steps", steps, 1);
        Checks.atLeast("--context", context, 2);
        Checks.atLeast("--batch", batch, 1);
        if (batch < mesh.dataParallelSize()) {
            throw Checks.broken(
                    "--batch", batch, "be at least " + mesh.dataParallelSize() + ", a sequence for each rank of dp");
        }
        Checks.notNull("layout", layout);
        Checks.atLeast("--window", window, 0);
        Checks.notNull("strategy", strategy);
        if (!(learningRate > 0 && learningRate < Double.POSITIVE_INFINITY)) {
            throw Checks.broken("--lr", learningRate, "be positive and finite");
        }
    }

    /** As the other constructor, for {@code ranks} that share each sequence. */
    Settings(
            Model model,
            int ranks,
            int steps,
            int context,
            int batch,
            double learningRate,
            Layout.Policy layout,
            int window,
            long seed,
            Strategy strategy) {
        this(
                model,
                Mesh.of(1, (int) Checks.between("--ranks", ranks, 1, MOST_RANKS), 1, 1),
                steps,
                context,
                batch,
                learningRate,
                layout,
                window,
                seed,
                strategy);
    }

    Settings withOneRank() {
        return new Settings(model, 1, steps, context, batch, learningRate, layout, window, seed, strategy);
    }

    Settings withContext(int context) {
        return new Settings(model, mesh, steps, context, batch, learningRate, layout, window, seed, strategy);
    }

    /** Returns the bytes of a step, over all ranks. */
    double tokens() {
        return (double) batch * context;
    }

    /** Returns the plan of every attention layer on {@code rank} of the mesh: causal over the whole sequence. */
    Plan plan(DType dtype, int rank) {
        int rows = (int) mesh.part("dp", rank, batch).count();
        Mask mask = window == 0 ? Mask.causal() : Mask.causal().window(window - 1L, 0);
        AttentionShape shape = AttentionShape.of(rows, model.heads(), model.kvHeads(), model.headDim(), dtype);
        return Plan.of(
                Problem.of(shape, Layout.of(layout, context, mesh.size("cp")), mask),
                strategy,
                AttentionOptions.defaults());
    }
}
