package org.flashring.plan;

import java.util.List;
import java.util.Locale;
import org.flashring.AttentionShape;
import org.flashring.DType;

/**
 * How one rank takes part in an all-to-all of heads among the members of its group (Jacobs et al. 2023, DeepSpeed
 * Ulysses). Before the steps each member gets the rows of all members, of its share of the heads alone; after them each
 * gets what was computed of its own rows, of all heads. In between the schedule's steps solve {@link #part}, as if its
 * rows were the rank's own. Pure, as schedules are.
 *
 * @param whole what the ranks solve together
 * @param part what the steps solve: the share's heads, with a group in the place of a rank
 * @param group which of the part's ranks this one is
 * @param members ranks of the group
 * @param place which of the members this rank is
 * @param shares heads that each member computes
 */
public record HeadExchange(
        Problem whole, Problem part, int group, List<Integer> members, int place, List<Share> shares) {
    /** Consecutive query heads and the key heads that they use, which other shares may use as well. */
    public record Share(long firstQuery, long queryHeads, long firstKey, long keyHeads) {
        /** Returns the first head, of the keys or of the queries. */
        public long first(boolean ofKeys) {
            return ofKeys ? firstKey : firstQuery;
        }

        /** Returns the number of heads, of the keys or of the queries. */
        public long heads(boolean ofKeys) {
            return ofKeys ? keyHeads : queryHeads;
        }
    }

    /** What travels. */
    public enum Operand {
        Q,
        K,
        V,
        OUT,
        LSE,
        DOUT,
        DELTA,
        DQ,
        DK,
        DV;

        /** Returns whether its rows and heads are those of the keys. */
        public boolean ofKeys() {
            return this == K || this == V || this == DK || this == DV;
        }

        /** Returns the size of one head. */
        public long dim(AttentionShape shape) {
            return switch (this) {
                case Q, K, DQ, DK -> shape.headDim();
                case V, OUT, DOUT, DV -> shape.valueDim();
                case LSE, DELTA -> 1;
            };
        }

        /** Returns the type in which it travels, gradients in {@code wire}. */
        public DType dtype(AttentionShape shape, DType wire) {
            return switch (this) {
                case Q, K, V, OUT, DOUT -> shape.dtype();
                case LSE, DELTA -> shape.dtype().accumulator();
                case DQ, DK, DV -> wire;
            };
        }
    }

    /** One exchange: what each message holds, one behind the other, the widest types first. */
    public enum Leg {
        FORWARD_OPERANDS,
        FORWARD_RESULTS,
        BACKWARD_OPERANDS,
        BACKWARD_RESULTS;

        /** Returns whether it goes from those who own the rows to those who compute the heads, not back. */
        public boolean toShares() {
            return this == FORWARD_OPERANDS || this == BACKWARD_OPERANDS;
        }

        /** Returns what each message holds. */
        public List<Operand> operands() {
            return switch (this) {
                case FORWARD_OPERANDS -> List.of(Operand.Q, Operand.K, Operand.V);
                case FORWARD_RESULTS -> List.of(Operand.LSE, Operand.OUT);
                case BACKWARD_OPERANDS ->
                    List.of(Operand.LSE, Operand.DELTA, Operand.Q, Operand.K, Operand.V, Operand.DOUT);
                case BACKWARD_RESULTS -> List.of(Operand.DQ, Operand.DK, Operand.DV);
            };
        }
    }

    /** Returns the rows of member {@code owner} of what {@code operand} is. */
    public long rows(Operand operand, int owner) {
        return (operand.ofKeys() ? whole.keys() : whole.queries()).localLength(members.get(owner));
    }

    /** Returns the rows of all members of what {@code operand} is. */
    public long rows(Operand operand) {
        return (operand.ofKeys() ? part.keys() : part.queries()).localLength(group);
    }

    /** Returns the elements of {@code rows} rows and {@code heads} heads of {@code operand}. */
    public long elements(Operand operand, long rows, long heads) {
        return whole.shape().batch() * rows * heads * operand.dim(whole.shape());
    }

    /** Returns the bytes of member {@code owner}'s rows of the heads that member {@code computer} computes. */
    public long bytes(Leg leg, int owner, int computer, DType wire) {
        return leg.operands().stream()
                .mapToLong(operand -> elements(
                                operand,
                                rows(operand, owner),
                                shares.get(computer).heads(operand.ofKeys()))
                        * operand.dtype(whole.shape(), wire).bytes())
                .sum();
    }

    /** Returns the bytes of all that this rank sends. */
    public long bytesSent(Leg leg, DType wire) {
        long bytes = 0;
        for (int member = 0; member < members.size(); member++) {
            if (member != place) {
                bytes += leg.toShares() ? bytes(leg, place, member, wire) : bytes(leg, member, place, wire);
            }
        }
        return bytes;
    }

    /** Returns how heads are dealt, for people. */
    String dealt() {
        long all = whole.shape().queryHeads();
        long least = shares.stream().mapToLong(Share::queryHeads).min().orElseThrow();
        long most = shares.stream().mapToLong(Share::queryHeads).max().orElseThrow();
        String each = least == most ? String.valueOf(most) : least + " to " + most;
        String imbalance = least == most
                ? ""
                : String.format(Locale.ROOT, ", at most %.2f times the mean", (double) most * shares.size() / all);
        return each + " of " + all + " query heads a rank" + imbalance + (repeatsKeys() ? ", key heads repeated" : "");
    }

    /** Returns this rank's share. */
    public Share share() {
        return shares.get(place);
    }

    /** Returns whether key heads are computed by several members, whose gradients of them are then added up. */
    public boolean repeatsKeys() {
        return shares.stream().mapToLong(Share::keyHeads).sum() > whole.shape().kvHeads();
    }
}
