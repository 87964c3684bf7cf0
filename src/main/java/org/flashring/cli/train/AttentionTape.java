package org.flashring.cli.train;

import java.util.ArrayDeque;
import java.util.Deque;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.flashring.DType;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.ShardedAttention;

/**
 * Puts sharded attention into a model whose other layers are differentiated by PyTorch, with no native autograd
 * function. Each {@link #attend} ends one segment of the autograd graph and begins the next with fresh leaves;
 * {@link #backward} goes through the segments from the last to the first and crosses each cut with FlashRing's own
 * backward.
 *
 * <pre>{@code
 *   segment 0        cut        segment 1        cut        segment 2
 *   embed, q, k, v  --|-- out, x: mlp, q, k, v  --|-- out, x: mlp, loss
 *
 * try (PointerScope step = new PointerScope()) {        // owns everything of this step
 *     Tensor x = embed(tokens);
 *     for (Block block : blocks) {
 *         AttentionTape.Attended a = tape.attend(x, block.q(x), block.k(x), block.v(x));
 *         x = block.after(a.residual(), a.out());
 *     }
 *     tape.backward(loss(x));                           // parameters now have their gradients
 * }
 * }</pre>
 *
 * The residual stream is cut too: a path round the attention would make PyTorch walk through a segment before the
 * attention's share of its gradient is known. Every rank calls the same methods in the same order, on one thread of its
 * own.
 */
public final class AttentionTape {
    /**
     * Where the next segment starts.
     *
     * @param residual same values as the residual that was given
     * @param out attention's output, [batch, local length, queryHeads, valueDim]
     */
    public record Attended(Tensor residual, Tensor out) {}

    private record Cut(Tensor residual, Tensor q, Tensor k, Tensor v, Tensor lse, Attended next) {}

    private final ShardedAttention attention;
    private final Deque<Cut> cuts = new ArrayDeque<>();

    /** Makes a tape over {@code attention}, which serves all layers in turn and stays the caller's to close. */
    public AttentionTape(ShardedAttention attention) {
        this.attention = attention;
    }

    /**
     * Returns attention over the whole sharded sequence, and the residual, both as leaves that need a gradient.
     * Collective. All four tensors must require a gradient and stay open until {@link #backward}.
     *
     * @param residual whatever else the next segment reads of this one, any shape
     * @param q [batch, local length, queryHeads, headDim], last dimension contiguous
     * @param k [batch, local length, kvHeads, headDim], last dimension contiguous
     * @param v [batch, local length, kvHeads, valueDim], last dimension contiguous
     * @throws IllegalArgumentException if a tensor does not fit the plan
     */
    public Attended attend(Tensor residual, Tensor q, Tensor k, Tensor v) {
        ScalarType wide =
                attention.plan().shape().dtype().accumulator() == DType.FLOAT64 ? ScalarType.Double : ScalarType.Float;
        Tensor out = torch.empty(new long[] {q.size(0), q.size(1), q.size(2), v.size(3)}, q.options(), null);
        Tensor lse = torch.empty(new long[] {q.size(0), q.size(2), q.size(1)}, new TensorOptions(wide), null);
        attention.forward(operands(q, k, v, out, lse), 0);
        Attended next = new Attended(residual.detach().requires_grad_(true), out.requires_grad_(true));
        cuts.push(new Cut(residual, q, k, v, lse, next));
        return next;
    }

    /**
     * Adds the gradients of {@code loss} to every leaf before it, parameters above all, and forgets the cuts.
     * Collective.
     *
     * @param loss one number, made from what the last {@link #attend} returned
     */
    public void backward(Tensor loss) {
        loss.backward();
        while (!cuts.isEmpty()) {
            Cut cut = cuts.pop();
            Tensor dq = torch.empty_like(cut.q);
            Tensor dk = torch.empty_like(cut.k);
            Tensor dv = torch.empty_like(cut.v);
            attention.backward(
                    new Backward(
                            operands(cut.q, cut.k, cut.v, cut.next.out, cut.lse),
                            TorchTensors.bshd(cut.next.out.grad().contiguous()),
                            TorchTensors.bshd(dq),
                            TorchTensors.bshd(dk),
                            TorchTensors.bshd(dv)),
                    0);
            torch.backward(
                    new TensorVector(cut.residual, cut.q, cut.k, cut.v),
                    new TensorVector(cut.next.residual.grad(), dq, dk, dv),
                    null,
                    false,
                    null);
        }
    }

    private static Forward operands(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse) {
        return new Forward(
                TorchTensors.bshd(q),
                TorchTensors.bshd(k),
                TorchTensors.bshd(v),
                TorchTensors.bshd(out),
                TorchTensors.lse(lse));
    }
}
