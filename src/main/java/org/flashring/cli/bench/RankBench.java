package org.flashring.cli.bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.flashring.attention.Backward;
import org.flashring.attention.Forward;
import org.flashring.attention.ShardedAttention;
import org.flashring.comm.Communicator;
import org.flashring.device.CurrentDevice;
import org.flashring.device.Device;
import org.flashring.device.Event;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Made;
import org.flashring.internal.Native;
import org.flashring.kernel.TensorMath;
import org.flashring.plan.Plan;

/**
 * One rank of several plans of one problem, all on the same operands, whose passes take turns. All ranks make one of
 * the same plans and call the same methods, on the thread that made it.
 */
final class RankBench implements AutoCloseable {
    /** What is timed. */
    static final int FORWARD = 0;

    static final int BOTH = 1; // forward and backward

    private final Communicator ranks;
    private final Device device;
    private final int previous; // device that was current
    private final TensorMath math;
    private final Operands on;
    private final List<ShardedAttention> attentions = new ArrayList<>();
    private final Event begin; // null on the host
    private final Event end;
    private final Made made = new Made();

    /** Makes the rank of {@code ranks}, its inputs drawn from N(0, 1). */
    RankBench(List<Plan> plans, Communicator ranks) {
        this.ranks = ranks;
        this.device = ranks.device();
        this.previous = CurrentDevice.enter(device); // whose default stream 0 stands for
        try {
            Plan first = plans.get(0);
            math = made.add(new TensorMath(device));
            on = made.add(new Operands(device, first.shape(), first.queries().localLength(ranks.rank())));
            on.draw(math, 1 + ranks.rank());
            for (Plan plan : plans) {
                attentions.add(made.add(new ShardedAttention(plan, ranks)));
            }
            begin = device.isCuda() ? made.add(Event.createTimed(device)) : null;
            end = device.isCuda() ? made.add(Event.createTimed(device)) : null;
        } catch (RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    /**
     * Returns this rank's milliseconds of each run of each pass of each plan, [plan][pass][run]: {@code repeats} runs
     * after {@code warmUp}. In each run all plans have their turn.
     */
    double[][][] time(int warmUp, int repeats) {
        Forward forward = on.forward();
        Backward backward = on.backward();
        double[][][] millis = new double[attentions.size()][2][repeats];
        for (int run = -warmUp; run < repeats; run++) {
            for (int plan = 0; plan < attentions.size(); plan++) {
                ShardedAttention attention = attentions.get(plan);
                double ofForward = time(() -> attention.forward(forward, 0));
                double ofBoth = time(() -> {
                    attention.forward(forward, 0);
                    attention.backward(backward, 0);
                });
                if (run >= 0) {
                    millis[plan][FORWARD][run] = ofForward;
                    millis[plan][BOTH][run] = ofBoth;
                }
            }
        }
        return millis;
    }

    /** Returns what all ranks do when in a forward and a backward pass of plan {@code index}; nothing but on rank 0. */
    List<Timeline.Step> timeline(int index) {
        Forward forward = on.forward();
        Backward backward = on.backward();
        return Timeline.of(ranks, () -> {
            attentions.get(index).forward(forward, 0);
            attentions.get(index).backward(backward, 0);
        });
    }

    /** Returns the milliseconds of a pass, all ranks beginning together; on a GPU those between events around it. */
    private double time(Runnable pass) {
        ranks.barrier();
        if (!device.isCuda()) {
            long start = System.nanoTime();
            pass.run();
            return (System.nanoTime() - start) / 1e6;
        }
        begin.record(0);
        pass.run();
        end.record(0);
        ranks.synchronize();
        return end.millisSince(begin);
    }

    /** Returns the values of all ranks, [rank][value]; each brings as many. */
    double[][] gather(double[] values) {
        int bytes = values.length * Double.BYTES;
        ByteBuffer all = ByteBuffer.allocateDirect(bytes * ranks.worldSize()).order(ByteOrder.nativeOrder());
        all.asDoubleBuffer().put(ranks.rank() * values.length, values);
        long onHost = Native.address(all);
        try (OwnedMemory memory = OwnedMemory.allocate(device, all.capacity())) {
            long place = (long) ranks.rank() * bytes;
            math.copyBytes(memory.address() + place, onHost + place, bytes);
            ranks.allGather(memory.address() + place, bytes, memory.address());
            math.copyBytes(onHost, memory.address(), all.capacity());
            ranks.synchronize();
        }
        double[] flat = new double[values.length * ranks.worldSize()];
        all.asDoubleBuffer().get(flat);
        double[][] byRank = new double[ranks.worldSize()][];
        Arrays.setAll(byRank, rank -> Arrays.copyOfRange(flat, rank * values.length, (rank + 1) * values.length));
        return byRank;
    }

    @Override
    public void close() {
        made.close();
        CurrentDevice.leave(previous);
    }
}
