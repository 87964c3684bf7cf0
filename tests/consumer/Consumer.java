import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import org.bytedeco.javacpp.FloatPointer;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.Threads;
import org.flashring.attention.RingAttention;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Cuda;
import org.flashring.device.HostBuffer;
import org.flashring.device.Memory;
import org.flashring.kernel.Capability;
import org.flashring.plan.Plan;

/**
 * A program that uses the library as any other would: causal attention of two ranks, forward and backward, checked by
 * hand. With q = 0 every visible key weighs the same: out[i] is the mean of v[0..i], lse[i] = ln(i + 1), and dv[j] sums
 * dout[i] / (i + 1) over i &gt;= j. Its first argument says what it touches first, its second, in milliseconds since
 * 1970, when: so that several processes do it at the same instant.
 */
public final class Consumer {
    private static final int LENGTH = 13;
    private static final int DIM = 4;

    private Consumer() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length > 1) {
            awaitInstant(Long.parseLong(arguments[1]));
        }
        switch (arguments[0]) {
            case "threads" -> touchAllAtOnce(List.of("buffer", "host", "group", "table", "plan"));
            case "threads with JavaCPP" ->
                touchAllAtOnce(List.of("buffer", "host", "group", "table", "plan", "JavaCPP"));
            case "interrupted" -> touchInterrupted();
            case "refused" -> {
                touchInVain();
                return;
            }
            default -> touch(arguments[0]);
        }
        AttentionShape shape = AttentionShape.of(1, 1, 1, DIM, DType.FLOAT32);
        Plan plan = Plan.of(shape, Layout.zigzag(LENGTH, 2), Mask.causal(), AttentionOptions.defaults());
        LocalGroup.run(2, communicator -> attend(plan, communicator));
        System.out.println("forward and backward are right");
    }

    private static void awaitInstant(long millis) {
        while (System.currentTimeMillis() < millis) {
            Thread.onSpinWait();
        }
    }

    /** Makes the first use of the library by one of its doors. */
    private static void touch(String door) {
        switch (door) {
            case "buffer" -> Memory.of(floats(4));
            case "JavaCPP" -> Memory.of(new FloatPointer(4)).bytes();
            case "host" -> HostBuffer.allocate(16).close();
            case "group" -> LocalGroup.single().close();
            case "table" -> Capability.all();
            case "cuda" -> Cuda.isAvailable();
            case "threads" -> Threads.get();
            case "plan" ->
                Plan.of(
                        AttentionShape.of(1, 1, 1, DIM, DType.FLOAT32),
                        Layout.contiguous(4, 1),
                        Mask.full(),
                        AttentionOptions.defaults());
            default -> throw new IllegalArgumentException("no such door: " + door);
        }
    }

    /** Tries all doors, one after the other, and prints what each says. */
    private static void touchInVain() {
        for (String door : List.of("plan", "buffer", "host", "group", "table", "cuda", "threads", "plan")) {
            try {
                touch(door);
                System.out.println(door + " opens");
            } catch (Throwable e) { // whatever it is
                System.out.println(e);
            }
        }
    }

    private static void touchInterrupted() {
        Thread.currentThread().interrupt();
        touch("plan");
        if (!Thread.interrupted()) {
            throw new IllegalStateException("the interrupt was lost");
        }
    }

    private static void touchAllAtOnce(List<String> doors) throws InterruptedException {
        CyclicBarrier ready = new CyclicBarrier(doors.size());
        List<Thread> threads = new ArrayList<>();
        for (String door : doors) {
            Thread thread = new Thread(() -> {
                try {
                    ready.await();
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
                touch(door);
            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
    }

    private static Object attend(Plan plan, Communicator communicator) {
        Positions positions = plan.queries().positions(communicator.rank());
        int local = (int) positions.length();
        FloatBuffer q = floats(local * DIM);
        FloatBuffer v = floats(local * DIM);
        FloatBuffer dout = floats(local * DIM);
        for (int i = 0; i < local * DIM; i++) {
            v.put(i, value(positions.position(i / DIM), i % DIM));
            dout.put(i, gradient(positions.position(i / DIM), i % DIM));
        }
        FloatBuffer out = floats(local * DIM);
        FloatBuffer lse = floats(local);
        FloatBuffer dq = floats(local * DIM);
        FloatBuffer dk = floats(local * DIM);
        FloatBuffer dv = floats(local * DIM);
        try (RingAttention attention = new RingAttention(plan, communicator)) {
            Tensor logs = Tensor.lse(Memory.of(lse), DType.FLOAT32, 1, 1, local);
            attention.forward(tensor(q, local), tensor(q, local), tensor(v, local), tensor(out, local), logs);
            attention.backward(
                    tensor(q, local),
                    tensor(q, local),
                    tensor(v, local),
                    tensor(out, local),
                    logs,
                    tensor(dout, local),
                    tensor(dq, local),
                    tensor(dk, local),
                    tensor(dv, local));
        }
        for (int i = 0; i < local; i++) {
            int position = (int) positions.position(i);
            require("lse", lse.get(i), Math.log(position + 1));
            for (int d = 0; d < DIM; d++) {
                double mean = 0;
                for (int j = 0; j <= position; j++) {
                    mean += value(j, d) / (position + 1);
                }
                double sum = 0;
                for (int j = position; j < LENGTH; j++) {
                    sum += gradient(j, d) / (j + 1);
                }
                require("out", out.get(i * DIM + d), mean);
                require("dv", dv.get(i * DIM + d), sum);
                require("dq", dq.get(i * DIM + d), 0); // dS K, and K = q = 0
                require("dk", dk.get(i * DIM + d), 0);
            }
        }
        return null;
    }

    private static float value(long position, int d) {
        return (float) Math.sin(position * 3 + d);
    }

    private static float gradient(long position, int d) {
        return (float) Math.cos(position + d * 2);
    }

    private static void require(String name, float actual, double expected) {
        if (!(Math.abs(actual - expected) < 1e-5)) {
            throw new IllegalStateException(name + " is " + actual + ", expected " + expected);
        }
    }

    private static FloatBuffer floats(int count) {
        return ByteBuffer.allocateDirect(count * Float.BYTES)
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
    }

    private static Tensor tensor(FloatBuffer buffer, int local) {
        return Tensor.bshd(Memory.of(buffer), DType.FLOAT32, 1, local, 1, DIM);
    }
}
