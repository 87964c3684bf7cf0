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

    private static final String[] NAMES = {"q", "k", "v", "sinks", "the result"};
    private static final int SINKS = 3; // 0 or null without
    private static final int RESULT = 4;
    private static final int LSE = 5;

    private final AttentionCalls calls; // null where there is nothing to compute
    private final long[] saved = new long[6]; // q, k, v, sinks, out, lse, without their history
    private final long[] versions = new long[5];
    private final boolean[] learns = new boolean[4]; // whether an input's hook will take its gradient
    private final long[] gradients = new long[4];

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
     * @param inputs q, k, v and sinks, null if there are none; one at least requires a gradient
     * @param lse a handle, which is the node's from now on
     */
    static void attach(AttentionCalls calls, TorchArray[] inputs, long out, long lse) {
        AttentionNode node = new AttentionNode(calls);
        Long id = IDS.incrementAndGet();
        ALIVE.put(id, node);
        for (int i = 0; i < inputs.length; i++) {
            node.learns[i] = inputs[i] != null && inputs[i].requiresGradient();
        }
        node.saved[LSE] = lse;
        LibTorch.attach(
                out,
                learnt(inputs[0]),
                learnt(inputs[1]),
                learnt(inputs[2]),
                learnt(inputs[SINKS]),
                inputs[0].type(),
                inputs[0].deviceType(),
                inputs[0].deviceIndex(),
                id,
                HOOK,
                GONE);
        for (int i = 0; i < node.versions.length; i++) {
            if (i == RESULT || inputs[i] != null) {
                node.saved[i] = LibTorch.detach(i == RESULT ? out : inputs[i].handle());
                node.versions[i] = LibTorch.version(node.saved[i]);
            }
        }
    }

    private static long learnt(TorchArray input) {
        return input != null && input.requiresGradient() ? input.handle() : 0;
    }

    private void differentiate(long outputGradient) {
        if (JniUtils.isGradMode()) {
            throw new UnsupportedOperationException(
                    "attention has no second derivative: call backward without createGraph");
        }
        for (int i = 0; i < versions.length; i++) {
            if (saved[i] != 0 && LibTorch.version(saved[i]) != versions[i]) {
                throw new IllegalStateException(NAMES[i]
                        + " has been changed in place since attention was computed, which needs it for backward");
            }
        }
        release(gradients);
        if (calls == null) { // zeros that come down the graph are all the gradients there are
            return;
        }
        TorchArray[] operands = new TorchArray[RESULT + 1];
        for (int i = 0; i < operands.length; i++) {
            operands[i] = saved[i] == 0 ? null : TorchArray.of(NAMES[i], saved[i]);
        }
        for (int i = 0; i < gradients.length; i++) {
            gradients[i] = operands[i] == null ? 0 : operands[i].newLike();
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
                                    view(operands[0]),
                                    view(operands[1]),
                                    view(operands[2]),
                                    view(operands[RESULT]),
                                    DjlTensors.lse(TorchArray.of("lse", saved[LSE]), this),
                                    sinks(operands[SINKS])),
                            view(rows == 0 ? dout : TorchArray.of(dout.name(), rows)),
                            view(TorchArray.of("dq", gradients[0])),
                            view(TorchArray.of("dk", gradients[1])),
                            view(TorchArray.of("dv", gradients[2])),
                            gradients[SINKS] == 0 ? null : sinks(TorchArray.of("dsinks", gradients[SINKS]))),
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
            if (!learns[i] && gradients[i] != 0) { // nobody comes for it
                LibTorch.free(gradients[i]);
                gradients[i] = 0;
            }
        }
    }

    private Tensor view(TorchArray facts) {
        return DjlTensors.bhsd(facts, this);
    }

    private Tensor sinks(TorchArray facts) {
        return facts == null ? null : DjlTensors.sinks(facts, this);
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
            if (node.calls == null) {
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
