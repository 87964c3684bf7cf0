import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.ref.WeakReference;
import java.util.concurrent.CompletableFuture;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.FlashAttention;
import org.flashring.device.Memory;

/**
 * A program for Java 22 or newer whose tensors lie in segments: attention of two tokens, checked by hand, and what is
 * refused. With q = 0 both keys weigh the same: out is the mean of v, and lse ln 2.
 */
public final class Segments {
    private static final long BYTES = 2 * 4 * Float.BYTES;

    private Segments() {}

    public static void main(String[] arguments) throws Exception {
        try (Arena arena = Arena.ofConfined();
                FlashAttention attention =
                        new FlashAttention(AttentionShape.of(1, 1, 1, 4, DType.FLOAT32), 2, Mask.full())) {
            attend(attention, arena);
            refuse(attention, arena);
        }
        keep();
    }

    private static void attend(FlashAttention attention, Arena arena) {
        MemorySegment zero = arena.allocate(BYTES, 64);
        MemorySegment values = arena.allocate(BYTES + 16, 64).asSlice(16);
        MemorySegment out = arena.allocate(BYTES, 64);
        MemorySegment lse = arena.allocate(2 * Float.BYTES, 64);
        for (int i = 0; i < 8; i++) {
            values.setAtIndex(ValueLayout.JAVA_FLOAT, i, i);
        }
        Tensor v = tensor(Memory.ofSegment(values.asReadOnly()));
        Tensor logs = Tensor.lse(Memory.ofSegment(lse), DType.FLOAT32, 1, 1, 2);
        attention.forward(
                tensor(Memory.ofSegment(zero)), tensor(Memory.ofSegment(zero)), v, tensor(Memory.ofSegment(out)), logs);
        for (int i = 0; i < 8; i++) {
            require(out.getAtIndex(ValueLayout.JAVA_FLOAT, i), 2 + i % 4);
        }
        require(lse.getAtIndex(ValueLayout.JAVA_FLOAT, 1), Math.log(2));
        System.out.println("attention is right");
        print(() -> attention.forward(v, v, v, v, logs));
    }

    private static void refuse(FlashAttention attention, Arena arena) {
        print(() -> Memory.ofSegment(null));
        print(() -> Memory.ofSegment("text"));
        print(() -> Memory.ofSegment(MemorySegment.ofArray(new float[8])));
        MemorySegment confined = arena.allocate(8);
        CompletableFuture.runAsync(() -> print(() -> Memory.ofSegment(confined)))
                .join();
        Tensor closed;
        MemorySegment segment;
        try (Arena other = Arena.ofShared()) {
            segment = other.allocate(BYTES, 64);
            closed = tensor(Memory.ofSegment(segment).slice(0, BYTES));
        }
        print(() -> Memory.ofSegment(segment));
        print(() -> attention.forward(closed, closed, closed, closed, closed));
    }

    /** Segments that the collector frees are there as long as a tensor over them is. */
    private static void keep() throws InterruptedException {
        MemorySegment segment = Arena.ofAuto().allocate(BYTES, 64);
        WeakReference<MemorySegment> reference = new WeakReference<>(segment);
        Tensor tensor = tensor(Memory.ofSegment(segment));
        segment = null;
        WeakReference<Object> other = new WeakReference<>(new Object());
        while (other.get() != null) {
            System.gc();
            Thread.sleep(1);
        }
        System.out.println(reference.get() != null && tensor.length() == 2 ? "kept" : "lost");
    }

    private static Tensor tensor(Memory memory) {
        return Tensor.packed(memory, DType.FLOAT32, 2, 1, 4);
    }

    private static void require(float actual, double expected) {
        if (!(Math.abs(actual - expected) < 1e-6)) {
            throw new IllegalStateException(actual + " is not " + expected);
        }
    }

    private static void print(Runnable call) {
        try {
            call.run();
            System.out.println("not refused");
        } catch (IllegalArgumentException e) {
            System.out.println(e.getMessage());
        }
    }
}
