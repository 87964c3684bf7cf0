import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.function.Function;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Memory;
import org.flashring.plan.Plan;

/** One causal sequence over four ranks, which are threads of this JVM: each holds a share of the tokens. */
public final class RingOverThreads {
    private static final int RANKS = 4;
    private static final long LENGTH = 101; // any length: nothing is padded
    private static final int HEAD = 128;

    private RingOverThreads() {}

    public static void main(String[] arguments) {
        LocalGroup.run(RANKS, ranks -> {
            runRank(ranks);
            return null;
        });
    }

    private static void runRank(Communicator ranks) {
        Positions positions = Layout.zigzag(LENGTH, RANKS).positions(ranks.rank());
        int tokens = (int) positions.length();
        FloatBuffer q = floats(tokens * 32 * HEAD);
        FloatBuffer k = floats(tokens * 8 * HEAD);
        FloatBuffer v = floats(tokens * 8 * HEAD);
        for (int i = 0; i < v.capacity(); i++) {
            v.put(i, positions.position(i / (8 * HEAD))); // with q = 0 each output is the mean of the positions seen
        }
        FloatBuffer out = floats(q.capacity());
        FloatBuffer dout = floats(q.capacity());
        for (int i = 0; i < dout.capacity(); i++) {
            dout.put(i, 1);
        }
        FloatBuffer dq = floats(q.capacity());
        FloatBuffer dk = floats(k.capacity());
        FloatBuffer dv = floats(v.capacity());
        FloatBuffer lse = floats(tokens * 32);
        attend(
                ranks,
                LENGTH,
                Memory.of(q),
                Memory.of(k),
                Memory.of(v),
                Memory.of(out),
                Memory.of(lse),
                Memory.of(dout),
                Memory.of(dq),
                Memory.of(dk),
                Memory.of(dv));
        long first = positions.position(0);
        long last = positions.position(tokens - 1L);
        float mean = out.get(out.capacity() - 1);
        System.out.println("rank " + ranks.rank() + ", token " + last + ": mean of 0 to " + last + " is " + mean);
        System.out.println("rank " + ranks.rank() + ", token " + first + ": its value's gradient is " + dv.get(0));
    }

    // spotless:off
    /** A rank's share of attention over one sequence; the memory is that of its own tokens. */
    static void attend(Communicator ranks, long length, Memory q, Memory k, Memory v, Memory out, Memory lse,
            Memory dout, Memory dq, Memory dk, Memory dv) {
        AttentionShape shape = AttentionShape.of(1, 32, 8, 128, DType.FLOAT32);  // batch, heads, kvHeads, headDim
        Layout layout = Layout.zigzag(length, ranks.worldSize());
        Plan plan = Plan.of(shape, layout, Mask.causal(), AttentionOptions.defaults());
        long tokens = plan.queries().localLength(ranks.rank());                  // of this rank
        Function<Memory, Tensor> heads = memory -> Tensor.bshd(memory, DType.FLOAT32, 1, tokens, 32, 128);
        Function<Memory, Tensor> kvHeads = memory -> Tensor.bshd(memory, DType.FLOAT32, 1, tokens, 8, 128);
        Tensor sums = Tensor.lse(lse, DType.FLOAT32, 1, 32, tokens);
        try (RingAttention ring = new RingAttention(plan, ranks)) {              // keep it; calls allocate nothing
            ring.forward(heads.apply(q), kvHeads.apply(k), kvHeads.apply(v), heads.apply(out), sums);
            ring.backward(heads.apply(q), kvHeads.apply(k), kvHeads.apply(v), heads.apply(out), sums, heads.apply(dout),
                    heads.apply(dq), kvHeads.apply(dk), kvHeads.apply(dv));
        }
    }
    // spotless:on

    private static FloatBuffer floats(int count) {
        return ByteBuffer.allocateDirect(count * Float.BYTES)
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
    }
}
