package org.flashring.serve;

import java.util.ArrayList;
import java.util.List;
import org.flashring.Tensor;
import org.flashring.device.Memory;
import org.flashring.internal.Checks;
import org.flashring.kernel.CacheStep;

/** The keys, values, scales and sinks of each layer: in one block of memory, or in tensors of the caller's. */
final class Layers {
    private final List<Tensor> keys = new ArrayList<>();
    private final List<Tensor> values = new ArrayList<>();
    private final Tensor[] sinks;
    private final Tensor[] keyScales;
    private final Tensor[] valueScales;
    private final long bytesAt; // of a cache of bytes, which has no tensors: its first layer; else 0
    private final long keyBytes;
    private final long layerBytes;

    /** Lays them over a block of {@link #bytes} bytes. */
    Layers(CachePlan plan, Memory block) {
        this(plan, plan.type() == CacheType.OF_SHAPE ? 0 : block.address());
        for (int layer = 0; bytesAt == 0 && layer < plan.layers(); layer++) {
            long start = layer * (plan.keyBytes() + plan.valueBytes());
            keys.add(
                    view(plan, block.slice(start, plan.keyBytes()), plan.shape().headDim()));
            Memory rest = block.slice(start + plan.keyBytes(), plan.valueBytes());
            values.add(view(plan, rest, plan.shape().valueDim()));
        }
    }

    private Layers(CachePlan plan, long bytesAt) {
        this.sinks = new Tensor[plan.layers()];
        this.keyScales = new Tensor[plan.layers()];
        this.valueScales = new Tensor[plan.layers()];
        this.bytesAt = bytesAt;
        this.keyBytes = plan.keyBytes();
        this.layerBytes = plan.keyBytes() + plan.valueBytes();
    }

    /** Takes the caller's. */
    Layers(CachePlan plan, CacheChecks checks, List<Tensor> keys, List<Tensor> values) {
        this(plan, 0);
        if (plan.type() != CacheType.OF_SHAPE) {
            throw Checks.broken("plan.type", plan.type(), "be OF_SHAPE where the memory is the caller's");
        }
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
        requireTensors();
        return keys.get(layer);
    }

    Tensor values(int layer) {
        requireTensors();
        return values.get(layer);
    }

    private void requireTensors() {
        if (bytesAt != 0) {
            throw new UnsupportedOperationException("a cache of FLOAT8_E4M3 has no tensors of its shape's type");
        }
    }

    /** Has a step work on a layer. */
    void bind(CacheStep step, int layer) {
        if (bytesAt == 0) {
            step.layer(open("keys", layer, keys.get(layer)), open("values", layer, values.get(layer)));
        } else {
            step.layer(bytesAt + layer * layerBytes, bytesAt + layer * layerBytes + keyBytes);
            step.scales(
                    open("scales of keys", layer, keyScales[layer]),
                    open("scales of values", layer, valueScales[layer]));
        }
    }

    /** Returns a tensor of the caller's, which was to stay, or null if there is none. */
    private static Tensor open(String name, int layer, Tensor tensor) {
        if (tensor != null && tensor.memory().isClosed()) {
            throw new IllegalStateException("the memory of the " + name + " of layer " + layer
                    + " has been closed; it must stay until the cache is closed");
        }
        return tensor;
    }

    void scales(int layer, Tensor ofKeys, Tensor ofValues) {
        keyScales[layer] = ofKeys;
        valueScales[layer] = ofValues;
    }

    /** Returns the sinks of a layer, or null. */
    Tensor sinks(int layer) {
        return open("sinks", layer, sinks[layer]);
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
