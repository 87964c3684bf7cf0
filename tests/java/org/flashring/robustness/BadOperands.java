package org.flashring.robustness;

import static org.flashring.robustness.BadCase.argument;
import static org.flashring.robustness.BadCase.state;
import static org.flashring.robustness.Operand.BATCH;
import static org.flashring.robustness.Operand.LENGTH;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.BytePointer;
import org.flashring.AttentionOptions;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.Tensor;
import org.flashring.attention.RingAttention;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.HostBuffer;
import org.flashring.device.Memory;
import org.flashring.plan.Plan;

/** Tensors that do not fit the plan, each in the place of each operand, and operations that may not be called. */
final class BadOperands {
    private static final AttentionShape SHAPE = new AttentionShape(BATCH, 4, 2, 8, 6, DType.BFLOAT16);
    private static final Plan PLAN = plan(1, AttentionOptions.defaults());

    private BadOperands() {}

    private static Plan plan(int world, AttentionOptions options) {
        return Plan.of(SHAPE, Layout.contiguous(LENGTH * world, world), Mask.causal(), options);
    }

    @FunctionalInterface
    private interface Use {
        void of(RingAttention attention) throws Exception;
    }

    private static void attention(Plan plan, Use use) throws Exception {
        try (RingAttention attention = new RingAttention(plan, LocalGroup.single())) {
            use.of(attention);
        }
    }

    static List<BadCase> cases() {
        List<BadCase> cases = new ArrayList<>();
        for (boolean backward : new boolean[] {false, true}) {
            for (Operand operand : Operand.values()) {
                if (operand.isUsed(backward)) {
                    addInput(cases, backward, operand);
                }
                if (operand.isOutput(backward)) {
                    addOutput(cases, backward, operand);
                }
            }
        }
        cases.addAll(lifecycle());
        return cases;
    }

    /** Adds a case in which one tensor alone is wrong; its memory is of its own. */
    private static void add(
            List<BadCase> cases, boolean backward, Operand operand, String wrong, Tensor tensor, Object value) {
        String name = (backward ? "backward: " : "forward: ") + operand.argument() + " " + wrong;
        cases.add(argument(
                name,
                () -> attention(PLAN, a -> Operand.call(a, backward, operand, tensor)),
                operand.argument(),
                value));
    }

    private static void addInput(List<BadCase> cases, boolean backward, Operand operand) {
        add(cases, backward, operand, "null", null, null);
        add(cases, backward, operand, "of a foreign 16-bit type", operand.of(DType.FLOAT16), "FLOAT16");
        add(cases, backward, operand, "of float64", operand.of(DType.FLOAT64), "FLOAT64");
        add(cases, backward, operand, "with a batch too many", operand.off(1, 0, 0, 0), "[3, 5, ");
        add(cases, backward, operand, "with a token too few", operand.off(0, -1, 0, 0), "[2, 4, ");
        add(
                cases,
                backward,
                operand,
                "with a head too many",
                operand.off(0, 0, 1, 0),
                "[2, 5, " + (operand.good().heads() + 1));
        add(
                cases,
                backward,
                operand,
                "with heads too long",
                operand.off(0, 0, 0, 2),
                ", " + (operand.good().dim() + 2) + "]");
        HostBuffer buffer = HostBuffer.allocate(operand.bytes());
        Tensor inBuffer = operand.in(buffer.memory());
        buffer.close();
        add(cases, backward, operand, "in a closed host buffer", inBuffer, "closed");
        BytePointer pointer = new BytePointer(operand.bytes() + 64);
        pointer.position(-pointer.address() & 63);
        Tensor atPointer = operand.in(Memory.of(pointer));
        pointer.close();
        add(cases, backward, operand, "at a closed pointer", atPointer, "closed");
    }

    private static void addOutput(List<BadCase> cases, boolean backward, Operand output) {
        ByteBuffer readOnly = ByteBuffer.allocateDirect((int) output.bytes() + 8)
                .alignedSlice(8)
                .asReadOnlyBuffer()
                .order(ByteOrder.nativeOrder());
        add(cases, backward, output, "in a read-only buffer", output.in(Memory.of(readOnly)), "read-only");
        add(cases, backward, output, "whose tokens share elements", output.folded(), ", 0, ");
        add(cases, backward, output, "whose elements overlap", output.crowded(), "strides overlap");
        for (Operand other : Operand.values()) {
            boolean counted = other.isOutput(backward)
                    && other.ordinal() <= output.ordinal(); // itself, or the pair the other way round
            if (other.isUsed(backward) && !counted) {
                String name = (backward ? "backward: " : "forward: ") + output.argument() + " shares memory with "
                        + other.argument();
                cases.add(argument(
                        name,
                        () -> attention(PLAN, a -> Operand.call(a, backward, sharing(output, other))),
                        output.argument(),
                        other.argument()));
            }
        }
    }

    /** Returns good tensors but for {@code output}, whose first element is the last of {@code other}. */
    private static Tensor[] sharing(Operand output, Operand other) {
        Tensor[] tensors = new Tensor[Operand.values().length];
        for (Operand operand : Operand.values()) {
            tensors[operand.ordinal()] = operand.good();
        }
        HostBuffer both = HostBuffer.allocate(output.bytes() + other.bytes());
        long last =
                other.bytes() - Math.max(output.dtype().bytes(), other.dtype().bytes());
        tensors[other.ordinal()] = other.in(Memory.of(both.address(), other.bytes()));
        tensors[output.ordinal()] = output.in(Memory.of(both.address() + last, output.bytes()));
        return tensors;
    }

    private static List<BadCase> lifecycle() {
        return List.of(
                argument("ring: plan null", () -> new RingAttention(null, LocalGroup.single()), "plan", null),
                argument("ring: communicator null", () -> new RingAttention(PLAN, null), "communicator", null),
                argument(
                        "ring: wrong world",
                        () -> new RingAttention(plan(2, AttentionOptions.defaults()), LocalGroup.single()),
                        "communicator.worldSize",
                        1),
                state(
                        "ring: backward of a plan that is forward only",
                        () -> attention(
                                plan(1, AttentionOptions.defaults().forwardOnly()),
                                a -> Operand.call(a, true, null, null)),
                        "forwardOnly"),
                state(
                        "ring: forward after close",
                        () -> attention(PLAN, a -> {
                            a.close();
                            Operand.call(a, false, null, null);
                        }),
                        "closed",
                        "RingAttention"),
                state(
                        "ring: backward after close",
                        () -> attention(PLAN, a -> {
                            a.close();
                            Operand.call(a, true, null, null);
                        }),
                        "closed",
                        "RingAttention"));
    }
}
