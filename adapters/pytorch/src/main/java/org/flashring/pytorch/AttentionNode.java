package org.flashring.pytorch;

import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ConcurrentMap;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.DeviceOptional;
import org.bytedeco.pytorch.GradMode;
import org.bytedeco.pytorch.PointerConsumer;
import org.bytedeco.pytorch.ScalarTypeOptional;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorBase;
import org.bytedeco.pytorch.TensorTensorHook;
import org.bytedeco.pytorch.VoidTensorHook;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.attention.AttentionCalls;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.device.Device;

/**
 * What backward of one call needs, and the hooks by which PyTorch's autograd comes to it. Java cannot define a node of
 * the graph, so one is made of nodes that PyTorch has:
 *
 * <pre>
 *   q -- alias -- sum --+
 *   k -- alias -- sum --+-- added to a token of no elements -- put_ nowhere in -- out
 *   v -- alias -- sum --+
 * </pre>
 *
 * and sinks likewise where there are some. The sums are put nowhere, and what comes back to an alias is one zero seen
 * as all elements: it takes no memory. The hook of out computes all gradients, those of the aliases put them in place
 * of the zeros. The token is a leaf that the graph alone holds: its memory is given back when the graph is gone, which
 * is when the next call may use this object again.
 */
final class AttentionNode {
    private static final Queue<AttentionNode> FREE = new ConcurrentLinkedQueue<>();
    private static final ConcurrentMap<Long, AttentionNode> ALL = new ConcurrentHashMap<>();
    private static final ConcurrentMap<Device, Tensor> NOWHERE = new ConcurrentHashMap<>();
    private static final GraphGone GRAPH_GONE = new GraphGone();

    static {
        GRAPH_GONE.retainReference(); // whatever scope is open, it is to outlive it
    }

    private static final String[] NAMES = {"q", "k", "v", "sinks", "the result"};
    private static final int SINKS = 3; // null without
    private static final int OUT = 4;
    private static final int LSE = 5;

    private final BytePointer token = new BytePointer(Double.BYTES); // never read: its address is this node's name
    private final OutputHook outputHook = new OutputHook();
    private final InputHook[] inputHooks = {new InputHook(0), new InputHook(1), new InputHook(2), new InputHook(SINKS)};
    private final Tensor[] saved = new Tensor[6]; // q, k, v, sinks, out, lse, without their history
    private final long[] versions = new long[5];
    private final boolean[] learns = new boolean[4]; // whether an input's hook will take its gradient
    private final Tensor[] gradients = new Tensor[4];
    private AttentionCalls kernel; // null where there is nothing to compute

    private AttentionNode() {
        token.retainReference();
        outputHook.retainReference();
        for (InputHook hook : inputHooks) {
            hook.retainReference();
        }
        ALL.put(token.address(), this);
    }

    /** Returns the number of calls whose graphs are alive. */
    static int alive() {
        return ALL.size() - FREE.size();
    }

    /**
     * Makes {@code out}, which {@code kernel} has computed of the inputs, a result of them in the autograd graph.
     *
     * @param inputs q, k, v and sinks, null if there are none; one at least requires a gradient
     */
    @SuppressWarnings("try") // a scope works by being open
    static void attach(AttentionCalls kernel, Tensor[] inputs, Tensor out, Tensor lse) {
        AttentionNode free = FREE.poll();
        AttentionNode node = free == null ? new AttentionNode() : free;
        try (PointerScope scope = new PointerScope()) {
            node.attachTo(kernel, inputs, out, lse);
        }
    }

    private void attachTo(AttentionCalls operation, Tensor[] inputs, Tensor out, Tensor lse) {
        kernel = operation;
        Tensor number = null;
        for (int i = 0; i < inputs.length; i++) {
            learns[i] = inputs[i] != null && inputs[i].requires_grad();
            saved[i] = inputs[i] == null ? null : kept(inputs[i].detach());
            if (learns[i]) {
                Tensor alias = inputs[i].alias();
                alias.register_hook(inputHooks[i]);
                Tensor sum = alias.sum();
                number = number == null ? sum : number.add(sum);
            }
        }
        saved[OUT] = kept(out.detach());
        saved[LSE] = kept(lse);
        Tensor nothing = torch.from_blob(
                        token, new long[] {0}, GRAPH_GONE, out.options(), new DeviceOptional(out.device()))
                .requires_grad_(true);
        out.put_(nowhere(out), nothing.add(number));
        out.register_hook(outputHook);
        for (int i = 0; i < versions.length; i++) {
            versions[i] = saved[i] == null ? 0 : saved[i]._version();
        }
    }

    private static Tensor nowhere(Tensor like) {
        return NOWHERE.computeIfAbsent(
                TorchTensors.device("the result", like),
                device -> kept(torch.empty(
                        new long[] {0}, like.options().dtype(new ScalarTypeOptional(ScalarType.Long)), null)));
    }

    private static <P extends Pointer> P kept(P pointer) {
        pointer.retainReference();
        return pointer;
    }

    @SuppressWarnings("try")
    private void differentiate(TensorBase outputGradient) {
        if (GradMode.is_enabled()) {
            throw new UnsupportedOperationException(
                    "attention has no second derivative: call backward without create_graph");
        }
        for (int i = 0; i < versions.length; i++) {
            if (saved[i] != null && saved[i]._version() != versions[i]) {
                throw new IllegalStateException(NAMES[i]
                        + " has been changed in place since attention was computed, which needs it for backward");
            }
        }
        release(gradients);
        try (PointerScope scope = new PointerScope()) {
            for (int i = 0; i < gradients.length; i++) {
                gradients[i] = saved[i] == null ? null : kept(torch.empty_like(saved[i]));
            }
            if (kernel == null && learns[SINKS]) {
                gradients[SINKS].zero_();
            }
            if (kernel != null) {
                Tensor dout = new Tensor(outputGradient);
                Tensor rows = dout.size(3) > 1 && dout.stride(3) != 1 ? dout.contiguous() : dout;
                kernel.backward(
                        new Backward(
                                operands(saved),
                                TorchTensors.bhsd("the gradient of the result", rows),
                                TorchTensors.bhsd("dq", gradients[0]),
                                TorchTensors.bhsd("dk", gradients[1]),
                                TorchTensors.bhsd("dv", gradients[2]),
                                gradients[SINKS] == null ? null : TorchTensors.sinks("dsinks", gradients[SINKS])),
                        CudaStreams.current(TorchTensors.device("q", saved[0])));
            }
        } catch (RuntimeException | Error e) {
            release(gradients);
            throw e;
        }
        for (int i = 0; i < gradients.length; i++) {
            if (!learns[i] && gradients[i] != null) { // nobody comes for it
                gradients[i].releaseReference();
                gradients[i] = null;
            }
        }
    }

    /**
     * Returns the operands of forward: q, k, v, the sinks, out and the lse; sinks and lse are null if there are none.
     */
    static Forward operands(Tensor... tensors) {
        return new Forward(
                TorchTensors.bhsd("q", tensors[0]),
                TorchTensors.bhsd("k", tensors[1]),
                TorchTensors.bhsd("v", tensors[2]),
                TorchTensors.bhsd("out", tensors[OUT]),
                tensors[LSE] == null ? null : TorchTensors.lse("lse", tensors[LSE]),
                tensors[SINKS] == null ? null : TorchTensors.sinks("sinks", tensors[SINKS]));
    }

    private void recycle() {
        kernel = null;
        release(saved);
        release(gradients);
        FREE.add(this);
    }

    private static void release(Tensor[] tensors) {
        for (int i = 0; i < tensors.length; i++) {
            if (tensors[i] != null) {
                tensors[i].releaseReference();
                tensors[i] = null;
            }
        }
    }

    /** Told by PyTorch of the gradient of the result, before that of anything earlier in the graph. */
    private final class OutputHook extends VoidTensorHook {
        @Override
        public void call(TensorBase gradient) {
            differentiate(gradient);
        }
    }

    /** Asked by PyTorch for the gradient of an input in place of the zeros that came down the graph. */
    private final class InputHook extends TensorTensorHook {
        private final int input;

        InputHook(int input) {
            this.input = input;
        }

        @Override
        public TensorBase call(TensorBase zeros) {
            return gradients[input];
        }
    }

    /** Told by PyTorch that nothing refers to a token any more. */
    private static final class GraphGone extends PointerConsumer {
        @Override
        public void call(Pointer token) {
            ALL.get(token.address()).recycle();
        }
    }
}
