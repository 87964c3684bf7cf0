package org.flashring.pytorch;

import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ConcurrentMap;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Edge;
import org.bytedeco.pytorch.FunctionPostHook;
import org.bytedeco.pytorch.GradMode;
import org.bytedeco.pytorch.Node;
import org.bytedeco.pytorch.PointerConsumer;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.flashring.attention.AttentionCalls;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;

/**
 * What backward of one call needs, and the way by which PyTorch's autograd comes to it. Java cannot define a node of
 * the graph, so it takes one that PyTorch has made and puts it between the result and the inputs:
 *
 * <pre>
 *   q ------+
 *   k ------+-- node of a concatenation of nothing -- out
 *   v ------+
 *   token --+
 * </pre>
 *
 * and sinks likewise where there are some. The gradient of out comes to an input of the node that the concatenation
 * does not read, so it has no gradients to give; a hook behind it gives those of attention. The token is a leaf that
 * the node alone holds: its memory is given back when the graph is gone, which is when the next call may use this
 * object again.
 */
final class AttentionNode {
    private static final Queue<AttentionNode> FREE = new ConcurrentLinkedQueue<>();
    private static final ConcurrentMap<Long, AttentionNode> ALL = new ConcurrentHashMap<>();
    private static final Tensor NOTHING = torch.empty(new long[] {0}).requires_grad_(true);
    private static final GraphGone GRAPH_GONE = new GraphGone();

    static {
        GRAPH_GONE.retainReference(); // whatever scope is open, they are to outlive it
        NOTHING.retainReference();
    }

    private static final String[] NAMES = {"q", "k", "v", "sinks", "the result"};
    private static final int SINKS = 3; // null without
    private static final int OUT = 4;
    private static final int LSE = 5;

    private final BytePointer token = new BytePointer(Double.BYTES); // never read: its address is this node's name
    private final Tensor[] saved = new Tensor[6]; // q, k, v, sinks, out, lse, without their history
    private final long[] versions = new long[5];
    private final boolean[] learns = new boolean[4]; // whether an input wants its gradient
    private Differentiation hook; // which the node refers to, but does not keep
    private Forward operands; // views of what is saved
    private AttentionCalls kernel; // null where there is nothing to compute

    private AttentionNode() {
        token.retainReference();
        ALL.put(token.address(), this);
    }

    /** Returns the number of calls whose graphs are alive. */
    static int alive() {
        return ALL.size() - FREE.size();
    }

    /**
     * Runs forward and makes its result one of the autograd graph, in a scope that the caller closes behind it.
     *
     * @param kernel null where there is nothing to compute
     * @param inputs q, k, v and sinks, null if there are none; one at least requires a gradient
     */
    static void run(AttentionCalls kernel, Tensor[] inputs, Tensor out, Tensor lse, long stream) {
        AttentionNode free = FREE.poll();
        AttentionNode node = free == null ? new AttentionNode() : free;
        node.forward(kernel, inputs, out, lse, stream);
        node.attach(inputs, out);
    }

    private void forward(AttentionCalls operation, Tensor[] inputs, Tensor out, Tensor lse, long stream) {
        try {
            save(inputs, out, lse);
            if (operation != null) {
                operands = operands(saved);
                operation.forward(operands, stream);
            }
            kernel = operation;
        } catch (RuntimeException | Error e) {
            recycle(); // there is no graph that will tell when it is gone
            throw e;
        }
    }

    private void save(Tensor[] inputs, Tensor out, Tensor lse) {
        for (int i = 0; i < inputs.length; i++) {
            learns[i] = inputs[i] != null && inputs[i].requires_grad();
            saved[i] = inputs[i] == null ? null : kept(inputs[i].detach());
        }
        saved[OUT] = kept(out.detach());
        saved[LSE] = kept(lse);
        for (int i = 0; i < versions.length; i++) {
            versions[i] = saved[i] == null ? 0 : saved[i]._version();
        }
    }

    private void attach(Tensor[] inputs, Tensor out) {
        TensorVector nothings = new TensorVector();
        for (boolean learning : learns) {
            if (learning) {
                nothings.push_back(NOTHING);
            }
        }
        hook = new Differentiation();
        nothings.push_back(torch.from_blob(token, new long[] {0}, GRAPH_GONE).requires_grad_(true));
        Node node = torch.cat(nothings).grad_fn();
        int edges = 0;
        for (int i = 0; i < inputs.length; i++) {
            if (learns[i]) {
                node.set_next_edge(edges++, edge(inputs[i]));
            }
        }
        node.add_post_hook(hook);
        torch.create_gradient_edge(out, node);
    }

    /** Returns where the gradient of a tensor goes. */
    private static Edge edge(Tensor tensor) {
        Node node = tensor.grad_fn();
        return node == null || node.isNull()
                ? tensor.alias().grad_fn().next_edge(0) // a leaf does not tell its own
                : new Edge(node, (int) tensor.output_nr());
    }

    private static <P extends Pointer> P kept(P pointer) {
        pointer.retainReference();
        return pointer;
    }

    /** Writes the gradients that are wanted into {@code given}, in the order of the node's edges. */
    @SuppressWarnings("try") // a scope works by being open
    private void differentiate(Tensor dout, TensorVector given) {
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
        try (PointerScope scope = new PointerScope()) {
            Tensor[] all = new Tensor[learns.length];
            int edges = 0;
            for (int i = 0; i < all.length; i++) {
                all[i] = saved[i] == null ? null : torch.empty_like(saved[i]);
                if (learns[i]) {
                    given.put(edges++, all[i]);
                }
            }
            given.put(edges, new Tensor()); // the token has none
            if (kernel == null && learns[SINKS]) {
                all[SINKS].zero_();
            }
            if (kernel != null) {
                Tensor rows = dout.size(3) > 1 && dout.stride(3) != 1 ? dout.contiguous() : dout;
                kernel.backward(
                        new Backward(
                                operands,
                                TorchTensors.bhsd("the gradient of the result", rows),
                                TorchTensors.bhsd("dq", all[0]),
                                TorchTensors.bhsd("dk", all[1]),
                                TorchTensors.bhsd("dv", all[2]),
                                all[SINKS] == null ? null : TorchTensors.sinks("dsinks", all[SINKS])),
                        CudaStreams.current(TorchTensors.device("q", saved[0])));
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
        operands = null;
        hook = null;
        for (int i = 0; i < saved.length; i++) {
            if (saved[i] != null) {
                saved[i].releaseReference();
                saved[i] = null;
            }
        }
        FREE.add(this);
    }

    /**
     * Asked by PyTorch for the gradients of the inputs when the node has its own, which are none. They go into
     * PyTorch's own vector: one of ours would refer to them until it is freed, and of a gradient that others refer to
     * PyTorch makes a copy for a leaf.
     */
    private final class Differentiation extends FunctionPostHook {
        @Override
        public TensorVector apply(TensorVector gradients, TensorVector outputGradients) {
            Tensor dout = outputGradients.get(1);
            if (dout.defined()) {
                differentiate(dout, gradients);
            }
            return gradients;
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
