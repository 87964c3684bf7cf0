package org.flashring.plan;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import org.flashring.AttentionShape;
import org.flashring.DType;
import org.flashring.plan.HeadExchange.Leg;
import org.flashring.plan.HeadExchange.Operand;

/**
 * Where the buffers of an exchange of heads lie, in bytes from the start of a rank's block.
 *
 * @param rows for each member, offset of own rows of its heads: those sent to it, and what it sends back
 * @param heads for each member, offset of its rows of own heads: those it sends, and what is sent back
 * @param operands offset of the rows of all members, of own heads; outputs and their gradients share a place
 * @param delta offset of rowsum(out * dout) of own rows, all heads, accumulator type
 * @param home offset of own dK and dV that come from several members, accumulator type
 */
public record ExchangeFootprint(List<Long> rows, List<Long> heads, Map<Operand, Long> operands, long delta, long home) {
    /** Returns where lies what both passes need, null without an exchange. */
    static ExchangeFootprint of(HeadExchange heads, DType wire, boolean backward, Footprint.Offsets offsets) {
        if (heads == null) {
            return null;
        }
        List<Long> outgoing = new ArrayList<>();
        List<Long> incoming = new ArrayList<>();
        for (int member = 0; member < heads.members().size(); member++) {
            boolean other = member != heads.place();
            outgoing.add(offsets.next(other, most(heads, heads.place(), member, wire, backward)));
            incoming.add(offsets.next(other, most(heads, member, heads.place(), wire, backward)));
        }
        Map<Operand, Long> operands = new EnumMap<>(Operand.class);
        for (Operand operand : List.of(Operand.Q, Operand.K, Operand.V, Operand.OUT, Operand.LSE)) {
            operands.put(operand, offsets.next(true, bytes(heads, operand)));
        }
        operands.put(Operand.DOUT, operands.get(Operand.OUT));
        return new ExchangeFootprint(List.copyOf(outgoing), List.copyOf(incoming), operands, 0, 0);
    }

    /** Returns these, and where lies what backward alone needs. */
    ExchangeFootprint withGradients(HeadExchange heads, boolean backward, Footprint.Offsets offsets) {
        AttentionShape shape = heads.whole().shape();
        long wide = shape.dtype().accumulator().bytes();
        Map<Operand, Long> all = new EnumMap<>(operands);
        for (Operand operand : List.of(Operand.DQ, Operand.DK, Operand.DV)) {
            all.put(operand, offsets.next(backward, bytes(heads, operand)));
        }
        long ownRows = heads.rows(Operand.DELTA, heads.place());
        long ownDelta = offsets.next(backward, heads.elements(Operand.DELTA, ownRows, shape.queryHeads()) * wide);
        long ownKeys = heads.whole().keyElements(heads.rows(Operand.DK, heads.place()), shape.kvHeads());
        long ownHome = offsets.next(backward && heads.repeatsKeys(), ownKeys * wide);
        return new ExchangeFootprint(rows, this.heads, all, ownDelta, ownHome);
    }

    /**
     * Returns the bytes of all members' rows of an operand, of own heads, gradients in the accumulator type. Natives
     * tell operands by their addresses: an empty one has a place of its own.
     */
    private static long bytes(HeadExchange heads, Operand operand) {
        AttentionShape shape = heads.whole().shape();
        long elements =
                heads.elements(operand, heads.rows(operand), heads.share().heads(operand.ofKeys()));
        return Math.max(1, elements)
                * operand.dtype(shape, shape.dtype().accumulator()).bytes();
    }

    /** Returns the bytes of the largest message with {@code owner}'s rows of {@code computer}'s heads. */
    private static long most(HeadExchange heads, int owner, int computer, DType wire, boolean backward) {
        return Arrays.stream(Leg.values())
                .filter(leg -> backward || leg == Leg.FORWARD_OPERANDS || leg == Leg.FORWARD_RESULTS)
                .mapToLong(leg -> heads.bytes(leg, owner, computer, wire))
                .max()
                .orElseThrow();
    }
}
