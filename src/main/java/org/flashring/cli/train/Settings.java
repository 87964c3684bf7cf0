package org.flashring.cli.train;

import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.internal.Checks;
import org.flashring.plan.Plan;
import org.flashring.plan.Problem;
import org.flashring.plan.Strategy;

/**
 * Everything that decides a training run, the text apart. What is wrong with it is said of the options that it comes
 * from.
 *
 * @param model size of the transformer
 * @param ranks ranks that share each sequence
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
        int ranks,
        int steps,
        int context,
        int batch,
        double learningRate,
        Layout.Policy layout,
        int window,
        long seed,
        Strategy strategy) {
    private static final int MOST_RANKS = 1024; // threads of this process

    /** @throws IllegalArgumentException if a number is out of range */
    Settings {
        Checks.notNull("model", model);
        Checks.between("--ranks", ranks, 1, MOST_RANKS);
        Checks.atLeast("--steps", steps, 1);
        Checks.atLeast("--context", context, 2);
        Checks.atLeast("--batch", batch, 1);
        Checks.notNull("layout", layout);
        Checks.atLeast("--window", window, 0);
        Checks.notNull("strategy", strategy);
        if (!(learningRate > 0 && learningRate < Double.POSITIVE_INFINITY)) {
            throw Checks.broken("--lr", learningRate, "be positive and finite");
        }
    }

    Settings withRanks(int ranks) {
        return new Settings(model, ranks, steps, context, batch, learningRate, layout, window, seed, strategy);
    }

    Settings withContext(int context) {
        return new Settings(model, ranks, steps, context, batch, learningRate, layout, window, seed, strategy);
    }

    /** Returns the bytes of a step, over all ranks. */
    double tokens() {
        return (double) batch * context;
    }

    /** Returns the plan of every attention layer: causal over the whole sequence. */
    Plan plan(DType dtype) {
        Mask mask = window == 0 ? Mask.causal() : Mask.causal().window(window - 1L, 0);
        AttentionShape shape = AttentionShape.of(batch, model.heads(), model.kvHeads(), model.headDim(), dtype);
        return Plan.of(
                Problem.of(shape, Layout.of(layout, context, ranks), mask), strategy, AttentionOptions.defaults());
    }
}
