package org.flashring.cli.train.dense;

import java.util.ArrayList;
import java.util.List;

/**
 * What a model learns, by the names that Hugging Face gives it, and where it lies: one behind the other, so that q, k
 * and v, and gate and up, are one matrix each. Groups are what is summed over ranks at once: the embedding, each layer,
 * and the output with its norm.
 */
final class Parameters {
    /**
     * A tensor that is learnt.
     *
     * @param number among all
     * @param start its first element, among those of all
     * @param shape [out, in], or [width] of a norm
     * @param deviation of the initial values; 0 for a norm, which starts as ones
     */
    record Parameter(String name, int number, long start, List<Long> shape, double deviation) {
        long elements() {
            return shape.stream().reduce(1L, Math::multiplyExact);
        }

        long end() {
            return start + elements();
        }
    }

    /** Where the matrices of a layer begin, from its first element on. */
    record Offsets(long attentionNorm, long qkv, long output, long mlpNorm, long gateUp, long down) {}

    private final List<Parameter> all = new ArrayList<>();
    private final List<Long> groups = new ArrayList<>(); // where each begins, and the end
    private final Offsets offsets;
    private long end;

    Parameters(DenseModel model) {
        // Scaled to the width: smaller weights make attention uniform, and its gradients all cancellation.
        double deviation = 1 / Math.sqrt(model.dim());
        double residual = deviation / Math.sqrt(2.0 * model.layers()); // the stream sums 2 * layers of these
        long dim = model.dim();
        long kv = (long) model.kvHeads() * model.headDim();
        groups.add(end);
        add("model.embed_tokens", deviation, (long) model.vocabulary(), dim);
        groups.add(end);
        for (int layer = 0; layer < model.layers(); layer++) {
            String prefix = "model.layers." + layer + ".";
            add(prefix + "input_layernorm", 0, dim);
            add(prefix + "self_attn.q_proj", deviation, model.queryWidth(), dim);
            add(prefix + "self_attn.k_proj", deviation, kv, dim);
            add(prefix + "self_attn.v_proj", deviation, kv, dim);
            add(prefix + "self_attn.o_proj", residual, dim, model.queryWidth());
            add(prefix + "post_attention_layernorm", 0, dim);
            add(prefix + "mlp.gate_proj", deviation, (long) model.hidden(), dim);
            add(prefix + "mlp.up_proj", deviation, (long) model.hidden(), dim);
            add(prefix + "mlp.down_proj", residual, dim, (long) model.hidden());
            groups.add(end);
        }
        add("model.norm", 0, dim);
        add("lm_head", deviation, (long) model.vocabulary(), dim);
        groups.add(end);
        List<Parameter> first = all.subList(1, all.size());
        long base = first.get(0).start();
        offsets = new Offsets(
                0,
                first.get(1).start() - base,
                first.get(4).start() - base,
                first.get(5).start() - base,
                first.get(6).start() - base,
                first.get(8).start() - base);
    }

    private void add(String name, double deviation, Long... shape) {
        Parameter parameter = new Parameter(name + ".weight", all.size(), end, List.of(shape), deviation);
        all.add(parameter);
        end = Math.addExact(end, parameter.elements());
    }

    List<Parameter> all() {
        return all;
    }

    /** Returns the number of learnt values. */
    long elements() {
        return end;
    }

    int groups() {
        return groups.size() - 1;
    }

    int groupOfLayer(int layer) {
        return 1 + layer;
    }

    int groupOfHead() {
        return groups() - 1;
    }

    /** Returns the first element of a group. */
    long start(int group) {
        return groups.get(group);
    }

    long elements(int group) {
        return groups.get(group + 1) - groups.get(group);
    }

    long largestGroup() {
        long most = 0;
        for (int group = 0; group < groups(); group++) {
            most = Math.max(most, elements(group));
        }
        return most;
    }

    /** Returns where matrices lie in each layer's group. */
    Offsets offsets() {
        return offsets;
    }

    /** Returns the elements of each rank's part of a group: nearly equal, the longer ones first. */
    long[] shares(int group, int ranks) {
        long[] shares = new long[ranks];
        long count = elements(group);
        for (int rank = 0; rank < ranks; rank++) {
            shares[rank] = count / ranks + (rank < count % ranks ? 1 : 0);
        }
        return shares;
    }
}
