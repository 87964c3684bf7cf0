package org.flashring.serve;

import java.util.List;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.comm.Communicator;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.internal.Checks;

/** The checks of tensors that a cache is handed; they allocate nothing unless they fail. */
final class CacheChecks {
    private final CachePlan plan;
    private final Device device;

    CacheChecks(CachePlan plan, Device device) {
        this.plan = plan;
        this.device = device;
    }

    static Device deviceOf(List<Tensor> keys) {
        Checks.atLeast("keys.size", Checks.notNull("keys", keys).size(), 1);
        return Checks.notNull("keys[0]", keys.get(0)).memory().device();
    }

    /** Checks that a plan is for a device and for ranks, null for one. */
    static void fits(CachePlan plan, Device device, Communicator ranks) {
        Cuda.require("device", device);
        Checks.equal("plan.ranks", plan.ranks(), ranks == null ? 1 : ranks.worldSize(), "the ranks that there are");
        if (device.isCuda() != plan.options().cuda()) {
            throw Checks.broken(
                    "device", device, "be " + (plan.options().cuda() ? "a CUDA device" : "the host") + ", as planned");
        }
    }

    int layer(int layer) {
        return (int) Checks.between("layer", layer, 0, plan.layers() - 1L);
    }

    int row(int row) {
        return (int) Checks.between("row", row, 0, plan.shape().batch() - 1);
    }

    void newLengths(int[] ofRow) {
        Checks.notNull("ofRow", ofRow);
        if (ofRow.length > 0) {
            Checks.equal("ofRow.length", ofRow.length, plan.shape().batch(), "one for each row");
        }
        for (int tokensOfRow : ofRow) {
            Checks.between("ofRow", tokensOfRow, 0, plan.newTokens());
        }
    }

    void stream(long stream) {
        if (stream != 0 && !device.isCuda()) {
            throw Checks.broken("stream", stream, "be 0 on the host");
        }
    }

    /** Checks a layer's keys, or its values, of {@code dim} elements a head. */
    void cache(String name, Tensor tensor, long dim) {
        boolean pages = plan.pageSize() > 0;
        tensor(
                name,
                tensor,
                pages ? plan.pages() : plan.shape().batch(),
                pages ? plan.pageSize() : plan.capacity(),
                plan.shape().kvHeads(),
                dim,
                plan.shape().dtype());
        written(name, tensor);
    }

    void newKeys(String name, Tensor tensor, long tokens, long dim) {
        AttentionShape shape = plan.shape();
        tensor(name, tensor, shape.batch(), tokens, shape.kvHeads(), dim, shape.dtype());
    }

    void queries(Tensor q, Tensor out, Tensor lse, long tokens) {
        AttentionShape shape = plan.shape();
        tensor("q", q, shape.batch(), tokens, shape.queryHeads(), shape.headDim(), shape.dtype());
        tensor("out", out, shape.batch(), tokens, shape.queryHeads(), shape.valueDim(), shape.dtype());
        written("out", out);
        apart("out", out, "q", q);
        if (lse != null) {
            tensor(
                    "lse",
                    lse,
                    shape.batch(),
                    tokens,
                    shape.queryHeads(),
                    1,
                    shape.dtype().accumulator());
            written("lse", lse);
            apart("lse", lse, "q", q);
            apart("lse", lse, "out", out);
        }
    }

    void sinks(Tensor sinks) {
        if (!plan.score().sinks()) {
            throw Checks.broken("sinks", sinks, "not be given, as the plan's score has none");
        }
        DType wide = plan.shape().dtype().accumulator();
        tensor("sinks", sinks, 1, 1, plan.shape().queryHeads(), 1, wide);
        if (sinks.heads() > 1) {
            Checks.equal("sinks.strideHead", sinks.strideHead(), 1, "since sinks lie side by side");
        }
    }

    /** Checks the scales of keys or values. */
    void scales(String name, Tensor scales) {
        if (plan.type() != CacheType.FLOAT8_E4M3) {
            throw Checks.broken(name, scales, "not be given, as the plan's type is " + plan.type());
        }
        tensor(name, scales, 1, 1, plan.shape().kvHeads(), 1, DType.FLOAT32);
        if (scales.heads() > 1) {
            Checks.equal(name + ".strideHead", scales.strideHead(), 1, "since scales lie side by side");
        }
    }

    private void tensor(String name, Tensor tensor, long batch, long length, long heads, long dim, DType dtype) {
        Checks.notNull(name, tensor);
        if (tensor.memory().isClosed()) {
            throw Checks.broken(name, "closed", "point to memory");
        }
        if (!tensor.memory().device().equals(device)) {
            throw Checks.broken(name, "on " + tensor.memory().device(), "lie on " + device + ", the cache's device");
        }
        if (tensor.dtype() != dtype) {
            throw Checks.broken(name + ".dtype", tensor.dtype(), "be " + dtype);
        }
        if (tensor.batch() != batch || tensor.length() != length || tensor.heads() != heads || tensor.dim() != dim) {
            throw Checks.broken(
                    name + " shape",
                    "[" + tensor.batch() + ", " + tensor.length() + ", " + tensor.heads() + ", " + tensor.dim() + "]",
                    "be [" + batch + ", " + length + ", " + heads + ", " + dim + "]");
        }
    }

    private static void written(String name, Tensor tensor) {
        if (!tensor.memory().isWritable()) {
            throw Checks.broken(name, "in read-only memory", "be writable");
        }
        if (!tensor.isInjective()) {
            throw Checks.broken(name, tensor, "give every element a place of its own: its strides overlap");
        }
    }

    static void apart(String name, Tensor output, String otherName, Tensor other) {
        if (output.overlaps(other)) {
            throw Checks.broken(name, output, "not share memory with " + otherName + ", which is " + other);
        }
    }
}
