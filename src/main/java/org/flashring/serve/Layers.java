package org.flashring.serve;

import java.util.ArrayList;
import java.util.List;
import org.flashring.Tensor;
import org.flashring.device.Memory;
import org.flashring.internal.Checks;

/** The keys, values and sinks of each layer: in one block of memory, or in tensors of the caller's. */
final class Layers {
    private final List<Tensor> keys = new ArrayList<>();
    private final List<Tensor> values = new ArrayList<>();
    private final Tensor[] sinks;

    /** Lays them over a block of {@link #bytes} bytes. */
    Layers(CachePlan plan, Memory block) {
        this.sinks = new Tensor[plan.layers()];
        for (int layer = 0; layer < plan.layers(); layer++) {
            long start = layer * (plan.keyBytes() + plan.valueBytes());
            keys.add(
                    view(plan, block.slice(start, plan.keyBytes()), plan.shape().headDim()));
            Memory rest = block.slice(start + plan.keyBytes(), plan.valueBytes());
            values.add(view(plan, rest, plan.shape().valueDim()));
        }
    }

    /** Takes the caller's. */
    Layers(CachePlan plan, CacheChecks checks, List<Tensor> keys, List<Tensor> values) {
        this.sinks = new Tensor[plan.layers()];
        Checks.equal("keys.size", keys.size(), plan.layers(), "a tensor a layer");
        Checks.equal("values.size", Checks.notNull("values", values).size(), plan.layers(), "a tensor a layer");
        for (int layer = 0; layer < plan.layers(); layer++) {
            checks.cache("keys[" + layer + "]", keys.get(layer), plan.shape().headDim());
            checks.cache(
                    "values[" + layer + "]", values.get(layer), plan.shape().valueDim());
        }
        this.keys.addAll(keys);
        this.values.addAll(values);
        requireApart();
    }

    /** Every element of every layer has a place of its own. */
    private void requireApart() {
        for (int i = 0; i < keys.size(); i++) {
            CacheChecks.apart("values[" + i + "]", values.get(i), "keys[" + i + "]", keys.get(i));
            for (int j = 0; j < i; j++) {
                CacheChecks.apart("keys[" + i + "]", keys.get(i), "keys[" + j + "]", keys.get(j));
                CacheChecks.apart("keys[" + i + "]", keys.get(i), "values[" + j + "]", values.get(j));
                CacheChecks.apart("values[" + i + "]", values.get(i), "keys[" + j + "]", keys.get(j));
                CacheChecks.apart("values[" + i + "]", values.get(i), "values[" + j + "]", values.get(j));
            }
        }
    }

    static long bytes(CachePlan plan) {
        return plan.layers() * (plan.keyBytes() + plan.valueBytes());
    }

    private static Tensor view(CachePlan plan, Memory memory, long dim) {
        boolean paged = plan.pageSize() > 0;
        return Tensor.bshd(
                memory,
                plan.shape().dtype(),
                paged ? plan.pages() : plan.shape().batch(),
                paged ? plan.pageSize() : plan.capacity(),
                plan.shape().kvHeads(),
                dim);
    }

    Tensor keys(int layer) {
        return keys.get(layer);
    }

    Tensor values(int layer) {
        return values.get(layer);
    }

    /** Returns the sinks of a layer, or null. */
    Tensor sinks(int layer) {
        return sinks[layer];
    }

    /** Throws if a layer lacks the sinks that the plan's score wants. */
    void requireSinks(CachePlan plan, int layer) {
        if (plan.score().sinks() && sinks[layer] == null) {
            throw new IllegalStateException("layer " + layer + " has no sinks yet, as the plan's score wants");
        }
    }

    void sinks(int layer, Tensor ofHeads) {
        sinks[layer] = ofHeads;
    }
}
