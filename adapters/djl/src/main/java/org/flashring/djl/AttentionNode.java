package org.flashring.djl;

import ai.djl.pytorch.jni.JniUtils;
import java.util.Arrays;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.AtomicLong;
import org.flashring.Tensor;
import org.flashring.attention.AttentionCalls;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.internal.LibTorch;

/**
 * What backward of one call needs, from forward until the graph is gone. DJL has no hooks; those of libtorch are set
 * through {@code libtorch.h}, which tells how the node is made.
 */
final class AttentionNode {
    static {
        LibTorch.requireLoaded();
    }

    private static final ConcurrentMap<Long, AttentionNode> ALIVE = new ConcurrentHashMap<>();
    private static final AtomicLong IDS = new AtomicLong();
    private static final Hook HOOK = new Hook();
    private static final Gone GONE = new Gone();

    static {
        HOOK.retainReference(); // whatever scope is open, they are to outlive it
        GONE.retainReference();
    }

    private static final String[] NAMES = {"q", "k", "v", "the result"};
    private static final int RESULT = 3;

    private final AttentionCalls calls; // null where there is nothing to compute
    private final long[] saved = new long[5]; // q, k, v, out, lse, without their history
    private final long[] versions = new long[4];
    private final boolean[] learns = new boolean[3]; // whether an input's hook will take its gradient
    private final long[] gradients = new long[3];

    private AttentionNode(AttentionCalls calls) {
        this.calls = calls;
    }

    /** Returns the number of calls whose graphs are alive. */
    static int alive() {
        return ALIVE.size();
    }

    /**
     * Makes {@code out}, which {@code calls} has computed of the inputs, a result of them in the autograd graph.
     *
     * @param inputs q, k and v, of which one at least requires a gradient
     * @param lse a handle, which is the node's from now on
     */
    static void attach(AttentionCalls calls, TorchArray[] inputs, long out, long lse) {
        AttentionNode node = new AttentionNode(calls);
        Long id = IDS.incrementAndGet();
        ALIVE.put(id, node);
        for (int i = 0; i < inputs.length; i++) {
            node.learns[i] = inputs[i].requiresGradient();
        }
        node.saved[4] = lse;
        LibTorch.attach(
                out,
                learnt(inputs[0]),
                learnt(inputs[1]),
                learnt(inputs[2]),
                inputs[0].deviceType(),
                inputs[0].deviceIndex(),
                id,
                HOOK,
                GONE);
        for (int i = 0; i < node.versions.length; i++) {
            node.saved[i] = LibTorch.detach(i < inputs.length ? inputs[i].handle() : out);
            node.versions[i] = LibTorch.version(node.saved[i]);
        }
    }

    private static long learnt(TorchArray input) {
        return input.requiresGradient() ? input.handle() : 0;
    }

    private void differentiate(long outputGradient) {
        if (JniUtils.isGradMode()) {
            throw new UnsupportedOperationException(
                    "attention has no second derivative: call backward without createGraph");
        }
        for (int i = 0; i < versions.length; i++) {
            if (LibTorch.version(saved[i]) != versions[i]) {
                throw new IllegalStateException(NAMES[i]
                        + " has been changed in place since attention was computed, which needs it for backward");
            }
        }
        release(gradients);
        TorchArray[] operands = new TorchArray[4];
        for (int i = 0; i < operands.length; i++) {
            operands[i] = TorchArray.of(NAMES[i], saved[i]);
        }
        for (int i = 0; i < gradients.length; i++) {
            gradients[i] = operands[i].newLike();
        }
        if (calls == null) {
            return;
        }
        TorchArray dout = TorchArray.of("the gradient of the result", outputGradient);
        long rows = dout.size(3) > 1 && dout.stride(3) != 1 ? dout.newLike() : 0;
        try {
            if (rows != 0) {
                LibTorch.copy(rows, outputGradient);
            }
            calls.backward(
                    new Backward(
                            new Forward(
                                    view(operands[0]), view(operands[1]), view(operands[2]), view(operands[3]), lse()),
                            view(rows == 0 ? dout : TorchArray.of(dout.name(), rows)),
                            view(TorchArray.of("dq", gradients[0])),
                            view(TorchArray.of("dk", gradients[1])),
                            view(TorchArray.of("dv", gradients[2]))),
                    operands[0].stream());
        } catch (RuntimeException | Error e) {
            release(gradients);
            throw e;
        } finally {
            if (rows != 0) {
                LibTorch.free(rows);
            }
        }
        for (int i = 0; i < gradients.length; i++) {
            if (!learns[i]) { // nobody comes for it
                LibTorch.free(gradients[i]);
                gradients[i] = 0;
            }
        }
    }

    private Tensor view(TorchArray facts) {
        return DjlTensors.bhsd(facts, this);
    }

    private Tensor lse() {
        return DjlTensors.lse(TorchArray.of("lse", saved[4]), this);
    }

    private static void release(long[] handles) {
        for (long handle : handles) {
            if (handle != 0) {
                LibTorch.free(handle);
            }
        }
        Arrays.fill(handles, 0);
    }

    /** Told by libtorch of the gradient of the result, before those of inputs that came down the graph as zeros. */
    private static final class Hook extends LibTorch.GradientHook {
        @Override
        public long call(long id, int which, long gradient) {
            AttentionNode node = ALIVE.get(id);
            if (which == RESULT) {
                node.differentiate(gradient);
                return LibTorch.detach(gradient);
            }
            long own = node.gradients[which];
            node.gradients[which] = 0; // libtorch's from now on, which may make it the .grad of a leaf as it is
            return own;
        }
    }

    /** Told by libtorch that nothing refers to a graph any more. */
    private static final class Gone extends LibTorch.GraphGone {
        @Override
        public void call(long id) {
            AttentionNode node = ALIVE.remove(id);
            release(node.saved);
            release(node.gradients);
        }
    }
}
