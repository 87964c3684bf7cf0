package org.flashring.attention;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.Tensor;
import org.flashring.comm.Transfers;
import org.flashring.device.Memory;
import org.flashring.kernel.TensorMath;
import org.flashring.plan.ExchangeFootprint;
import org.flashring.plan.Footprint;
import org.flashring.plan.HeadExchange;
import org.flashring.plan.HeadExchange.Leg;
import org.flashring.plan.HeadExchange.Operand;
import org.flashring.plan.Plan;

/**
 * One rank's exchange of heads: tensors of all members' rows, of this rank's share of the heads, which the steps
 * compute with; and the ways between those and the caller's own. Everything is made once.
 */
final class HeadExchanger {
    private final HeadExchange heads;
    private final ExchangeFootprint footprint;
    private final DType wire;
    private final long base;
    private final Map<Operand, Tensor> together = new EnumMap<>(Operand.class);
    private final Map<Leg, TravellingHeads[]> travellers = new EnumMap<>(Leg.class);
    private final Map<Leg, Transfers> transfers = new EnumMap<>(Leg.class);
    private final Map<Leg, Long> bytesSent = new EnumMap<>(Leg.class);
    private final Tensor ownDelta;
    private final Forward forward;
    private final Backward backward;

    HeadExchanger(HeadExchange heads, Plan plan, Footprint all, Tensor delta, long base) {
        this.heads = heads;
        this.footprint = all.exchange();
        this.wire = plan.wireDType();
        this.base = base;
        footprint.operands().forEach((operand, offset) -> together.put(operand, whole(operand, base + offset)));
        together.put(Operand.DELTA, delta);
        AttentionShape shape = heads.whole().shape();
        ownDelta = Tensor.lse(
                Memory.of(base + footprint.delta()),
                shape.dtype().accumulator(),
                shape.batch(),
                shape.queryHeads(),
                heads.rows(Operand.DELTA, heads.place()));
        for (Leg leg : Leg.values()) {
            if (plan.options().backward() || leg == Leg.FORWARD_OPERANDS || leg == Leg.FORWARD_RESULTS) {
                bind(leg);
            }
        }
        forward = new Forward(
                together.get(Operand.Q),
                together.get(Operand.K),
                together.get(Operand.V),
                together.get(Operand.OUT),
                together.get(Operand.LSE));
        backward = new Backward(
                forward,
                together.get(Operand.DOUT),
                together.get(Operand.DQ),
                together.get(Operand.DK),
                together.get(Operand.DV));
    }

    /** Returns what the steps of forward compute with. */
    Forward forward() {
        return forward;
    }

    /** Returns what the steps of backward compute with. */
    Backward backward() {
        return backward;
    }

    /** Returns where rowsum(out * dout) of own rows is expected before those of backward leave. */
    Tensor ownDelta() {
        return ownDelta;
    }

    /**
     * Readies what a leg sends. {@code of} and {@code gradients} are the caller's own; none of the latter in forward.
     */
    void pack(Leg leg, TensorMath math, Forward of, Backward gradients) {
        for (TravellingHeads each : travellers.get(leg)) {
            if (leg.toShares()) {
                each.spread(math, own(each.operand(), of, gradients));
            } else {
                each.split(math);
            }
        }
    }

    /** Returns what a leg sends and receives. */
    Transfers transfers(Leg leg) {
        return transfers.get(leg);
    }

    /** Returns the bytes of what a leg sends. */
    long bytesSent(Leg leg) {
        return bytesSent.get(leg);
    }

    /** Puts what has come in a leg, and what stays here, into its place. */
    void unpack(Leg leg, TensorMath math, Forward of, Backward gradients) {
        for (TravellingHeads each : travellers.get(leg)) {
            if (leg.toShares()) {
                each.gather(math, own(each.operand(), of, gradients));
            } else if (own(each.operand(), of, gradients) != null) { // the caller may want no lse
                each.takeHome(math, own(each.operand(), of, gradients));
            }
        }
    }

    private Tensor own(Operand operand, Forward of, Backward gradients) {
        return switch (operand) {
            case Q -> of.q();
            case K -> of.k();
            case V -> of.v();
            case OUT -> of.out();
            case LSE -> of.lse();
            case DOUT -> gradients.dout();
            case DELTA -> ownDelta;
            case DQ -> gradients.dq();
            case DK -> gradients.dk();
            case DV -> gradients.dv();
        };
    }

    private void bind(Leg leg) {
        Transfers batch = new Transfers();
        List<TravellingHeads> all = new ArrayList<>();
        long[] rowsEnd = new long[heads.members().size()];
        long[] headsEnd = new long[heads.members().size()];
        for (Operand operand : leg.operands()) {
            List<Tensor> rows = new ArrayList<>();
            List<Tensor> ofHeads = new ArrayList<>();
            for (int member = 0; member < heads.members().size(); member++) {
                boolean other = member != heads.place();
                long rowsAt = base + footprint.rows().get(member) + rowsEnd[member];
                long headsAt = base + footprint.heads().get(member) + headsEnd[member];
                rows.add(other ? message(operand, heads.place(), member, rowsAt) : null);
                ofHeads.add(other ? message(operand, member, heads.place(), headsAt) : null);
                rowsEnd[member] += other ? bytes(rows.get(member)) : 0;
                headsEnd[member] += other ? bytes(ofHeads.get(member)) : 0;
            }
            all.add(new TravellingHeads(heads, operand, together.get(operand), rows, ofHeads, home(operand)));
        }
        for (int distance = 1; distance < heads.members().size(); distance++) { // not all to the same one at once
            int to = (heads.place() + distance) % heads.members().size();
            int from = Math.floorMod(heads.place() - distance, heads.members().size());
            long sent = base + (leg.toShares() ? footprint.rows() : footprint.heads()).get(to);
            long received = base + (leg.toShares() ? footprint.heads() : footprint.rows()).get(from);
            batch.send(
                    sent,
                    (leg.toShares() ? rowsEnd : headsEnd)[to],
                    heads.members().get(to));
            batch.receive(
                    received,
                    (leg.toShares() ? headsEnd : rowsEnd)[from],
                    heads.members().get(from));
        }
        transfers.put(leg, batch);
        bytesSent.put(leg, heads.bytesSent(leg, wire));
        travellers.put(leg, all.toArray(TravellingHeads[]::new)); // to walk a list makes an object
    }

    private static long bytes(Tensor dense) {
        return dense.elements() * dense.dtype().bytes();
    }

    private Tensor message(Operand operand, int owner, int computer, long address) {
        AttentionShape shape = heads.whole().shape();
        return Tensor.bshd(
                Memory.of(address),
                operand.dtype(shape, wire),
                shape.batch(),
                heads.rows(operand, owner),
                heads.shares().get(computer).heads(operand.ofKeys()),
                operand.dim(shape));
    }

    /** Returns all members' rows of own heads, gradients in the accumulator type. */
    private Tensor whole(Operand operand, long address) {
        AttentionShape shape = heads.whole().shape();
        DType dtype = operand.dtype(shape, shape.dtype().accumulator());
        long rows = heads.rows(operand);
        long count = heads.share().heads(operand.ofKeys());
        return operand == Operand.LSE
                ? Tensor.lse(Memory.of(address), dtype, shape.batch(), count, rows)
                : Tensor.bshd(Memory.of(address), dtype, shape.batch(), rows, count, operand.dim(shape));
    }

    /** Returns where own gradients of key heads that several members compute are added up; null for all else. */
    private Tensor home(Operand operand) {
        if (!heads.repeatsKeys() || (operand != Operand.DK && operand != Operand.DV)) {
            return null;
        }
        AttentionShape shape = heads.whole().shape();
        DType wide = shape.dtype().accumulator();
        long rows = heads.rows(operand, heads.place());
        long keys = heads.elements(Operand.DK, rows, shape.kvHeads()) * wide.bytes();
        return Tensor.bshd(
                Memory.of(base + footprint.home() + (operand == Operand.DV ? keys : 0)),
                wide,
                shape.batch(),
                rows,
                shape.kvHeads(),
                operand.dim(shape));
    }
}
