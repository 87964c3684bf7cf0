import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.attention.RingAttention;
import org.flashring.comm.local.LocalGroup;
import org.flashring.plan.Plan;

/**
 * Makes operations that cannot be made: their buffers can be had, but the Java heap has no room left for a copy of the
 * mask's many documents on its way to native memory. Prints by how many bytes the process has grown by the attempts, in
 * address space.
 */
public final class Leak {
    private static final int DOCUMENTS = 3_000_000; // 24 MB, of which three copies are needed
    private static final int ATTEMPTS = 20;
    private static final int MEBIBYTE = 1 << 20;
    private static final long ROOM = 30 * MEBIBYTE;

    private Leak() {}

    public static void main(String[] arguments) throws IOException {
        Plan plan = Plan.of(
                AttentionShape.of(1, 1, 1, 8, DType.BFLOAT16),
                Layout.contiguous(DOCUMENTS, 1),
                mask(),
                AttentionOptions.defaults());
        System.out.println("holds " + plan.bytesHeld(0));
        List<byte[]> ballast = new ArrayList<>();
        try {
            while (true) {
                ballast.add(new byte[MEBIBYTE / 2]);
            }
        } catch (OutOfMemoryError e) {
            for (long freed = 0; freed < ROOM; freed += MEBIBYTE / 2) {
                ballast.remove(ballast.size() - 1);
            }
        }
        long before = addressSpace();
        int refused = 0;
        for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
            try (RingAttention attention = new RingAttention(plan, LocalGroup.single())) {
                attention.plan();
            } catch (OutOfMemoryError e) {
                refused += e.getMessage().contains("Java heap space") ? 1 : 0;
            }
        }
        long grown = addressSpace() - before;
        ballast.clear();
        System.out.println("refused " + refused + " of " + ATTEMPTS);
        System.out.println("grown " + grown);
    }

    private static Mask mask() {
        long[] documents = new long[DOCUMENTS + 1];
        for (int i = 0; i < documents.length; i++) {
            documents[i] = i;
        }
        return Mask.causal().documents(documents);
    }

    private static long addressSpace() throws IOException {
        String pages = Files.readString(Path.of("/proc/self/statm")).split(" ")[0];
        return Long.parseLong(pages) * 4096;
    }
}
