import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Arrays;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.device.Device;
import org.flashring.device.Memory;
import org.flashring.serve.Cache;
import org.flashring.serve.CachePlan;

/**
 * Greedy decoding with a cache of keys and values. The model is a toy made by hand: each token looks for itself among
 * the tokens before, and what followed there is what it says comes next.
 */
public final class GreedyDecoding {
    private GreedyDecoding() {}

    public static void main(String[] arguments) {
        System.out.println(Arrays.toString(decode(new Model(), new int[] {3, 1, 4, 5, 9, 2, 6, 3}, 12)));
    }

    static int[] decode(Model model, int[] prompt, int count) {
        int[] text = new int[count];
        CachePlan plan = CachePlan.paged(model.shape(), model.layers(), prompt.length + count, 16)
                .withNewTokens(prompt.length);
        try (Cache cache = new Cache(plan, Device.HOST)) {
            int[] input = prompt;
            for (int i = 0; i < count; i++) {
                Activations x = model.embed(input);
                for (int layer = 0; layer < model.layers(); layer++) {
                    model.project(layer, x);
                    cache.append(layer, x.k(), x.v());
                    cache.forward(layer, x.q(), x.out());
                    model.finish(layer, x);
                }
                cache.advance();
                text[i] = model.likeliest(x);
                input = new int[] {text[i]};
            }
        }
        return text;
    }

    /** A step's tokens within the model: [tokens][16] each. */
    private record Activations(FloatBuffer queries, FloatBuffer keys, FloatBuffer values, FloatBuffer found) {
        Tensor q() {
            return view(queries);
        }

        Tensor k() {
            return view(keys);
        }

        Tensor v() {
            return view(values);
        }

        Tensor out() {
            return view(found);
        }

        private static Tensor view(FloatBuffer numbers) {
            long tokens = numbers.capacity() / Model.VOCABULARY;
            return Tensor.bshd(Memory.of(numbers), DType.FLOAT32, 1, tokens, 1, Model.VOCABULARY);
        }
    }

    /** Queries and values say which token it is, keys which one came before. */
    private static final class Model {
        static final int VOCABULARY = 16;
        private static final float SHARP = 200; // what matches outweighs all else

        private int[] tokens; // of this step
        private int before = -1; // the token before the next one

        AttentionShape shape() {
            return AttentionShape.of(1, 1, 1, VOCABULARY, DType.FLOAT32);
        }

        int layers() {
            return 1;
        }

        Activations embed(int[] input) {
            tokens = input;
            return new Activations(
                    numbers(input.length), numbers(input.length), numbers(input.length), numbers(input.length));
        }

        void project(int layer, Activations x) {
            for (int i = 0; i < tokens.length; i++) {
                x.queries().put(i * VOCABULARY + tokens[i], SHARP);
                x.values().put(i * VOCABULARY + tokens[i], 1);
                if (before >= 0) {
                    x.keys().put(i * VOCABULARY + before, 1);
                }
                before = tokens[i];
            }
        }

        void finish(int layer, Activations x) {
            // What was found is the answer; a real model adds it to its stream and goes through an MLP.
        }

        int likeliest(Activations x) {
            int last = (tokens.length - 1) * VOCABULARY;
            int best = 0;
            for (int token = 1; token < VOCABULARY; token++) {
                best = x.found().get(last + token) > x.found().get(last + best) ? token : best;
            }
            return best;
        }

        private static FloatBuffer numbers(int count) {
            return ByteBuffer.allocateDirect(count * VOCABULARY * Float.BYTES)
                    .order(ByteOrder.nativeOrder())
                    .asFloatBuffer();
        }
    }
}
