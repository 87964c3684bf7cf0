package org.flashring.attention;

import java.util.ArrayList;
import java.util.List;
import org.flashring.Positions;
import org.flashring.Tensor;
import org.flashring.device.Memory;
import org.flashring.kernel.TensorMath;
import org.flashring.plan.HeadExchange;
import org.flashring.plan.HeadExchange.Operand;

/**
 * The ways of one operand in an exchange of heads: between the caller's own rows of all heads and all members' rows of
 * own heads, in order of their positions.
 */
final class TravellingHeads {
    /** Some of a member's rows: where they stand among all rows, and in its message; null for this rank's own. */
    private record Stretch(Tensor together, Tensor message, long ownRow) {}

    private final Operand operand;
    private final int place;
    private final List<Tensor> ofRows;
    private final Tensor[] homes; // by member; null where its gradients go straight to the caller's
    private final Tensor home;
    private final boolean[] first; // whether a member's gradients are the first of their head
    private final long[] firstHead;
    private final Stretch[][] stretches; // by member
    private final Stretch[] ownStretchesAtHome;

    /**
     * Makes them.
     *
     * @param together all members' rows of own heads
     * @param ofRows for each member, a message of own rows of its heads
     * @param ofHeads for each member, a message of its rows of own heads
     * @param home where own rows of heads that several members compute are added up; null if there are none
     */
    TravellingHeads(
            HeadExchange heads,
            Operand operand,
            Tensor together,
            List<Tensor> ofRows,
            List<Tensor> ofHeads,
            Tensor home) {
        int members = heads.members().size();
        this.operand = operand;
        this.place = heads.place();
        this.ofRows = ofRows;
        this.home = home;
        this.homes = new Tensor[members];
        this.first = new boolean[members];
        this.firstHead = new long[members];
        this.stretches = new Stretch[members][];
        List<Positions> positions = heads.members().stream()
                .map((operand.ofKeys() ? heads.whole().keys() : heads.whole().queries())::positions)
                .toList();
        for (int member = 0; member < members; member++) {
            HeadExchange.Share share = heads.shares().get(member);
            firstHead[member] = share.first(operand.ofKeys());
            first[member] = member == 0 || firstHead[member] != firstHead[member - 1];
            homes[member] = home == null ? null : heads(home, firstHead[member], share.heads(operand.ofKeys()));
            List<Stretch> rows = new ArrayList<>();
            for (KeyTensors.Range range : KeyTensors.Range.of(positions.get(member), positions)) {
                Tensor message = ofHeads.get(member);
                rows.add(new Stretch(
                        KeyTensors.rows(together, range.row(), range.count(), range.stride()),
                        message == null ? null : KeyTensors.rows(message, range.ownRow(), range.count(), 1),
                        range.ownRow()));
            }
            stretches[member] = rows.toArray(Stretch[]::new);
        }
        this.ownStretchesAtHome = home == null ? null : atHome(stretches[place], homes[place]);
    }

    private static Stretch[] atHome(Stretch[] own, Tensor home) {
        Stretch[] found = new Stretch[own.length];
        for (int i = 0; i < own.length; i++) {
            Tensor rows =
                    KeyTensors.rows(home, own[i].ownRow(), own[i].together().length(), 1);
            found[i] = new Stretch(own[i].together(), rows, own[i].ownRow());
        }
        return found;
    }

    private static Tensor heads(Tensor of, long first, long count) {
        long skipped = of.length() == 0 ? 0 : first * of.strideHead();
        return Tensor.strided(
                Memory.of(of.address() + skipped * of.dtype().bytes()),
                of.dtype(),
                of.batch(),
                of.length(),
                count,
                of.dim(),
                of.strideBatch(),
                of.strideLength(),
                of.strideHead());
    }

    /** Returns what travels. */
    Operand operand() {
        return operand;
    }

    /** Copies own rows into the messages, to each member those of its heads. */
    void spread(TensorMath math, Tensor own) {
        for (int member = 0; member < firstHead.length && own.length() > 0; member++) {
            if (member != place) {
                math.load(ofRows.get(member), own, 0, firstHead[member]);
            }
        }
    }

    /** Puts the rows of all members together. */
    void gather(TensorMath math, Tensor own) {
        for (int member = 0; member < firstHead.length; member++) {
            for (Stretch rows : stretches[member]) {
                if (member == place) {
                    math.load(rows.together(), own, rows.ownRow(), firstHead[member]);
                } else {
                    math.convert(rows.together(), rows.message());
                }
            }
        }
    }

    /** Copies what was computed of others' rows into the messages that take it back. */
    void split(TensorMath math) {
        for (int member = 0; member < firstHead.length; member++) {
            for (Stretch rows : stretches[member]) {
                if (member != place) {
                    math.convert(rows.message(), rows.together());
                }
            }
        }
    }

    /**
     * Puts what all members have computed of own rows into the caller's own tensor; of a head that several have, the
     * sum in their order.
     */
    void takeHome(TensorMath math, Tensor own) {
        for (int member = 0; member < firstHead.length && own.length() > 0; member++) {
            if (home != null) {
                add(math, member);
            } else if (member != place) {
                math.store(own, 0, firstHead[member], ofRows.get(member));
            } else {
                for (Stretch rows : stretches[member]) {
                    math.store(own, rows.ownRow(), firstHead[member], rows.together());
                }
            }
        }
        if (home != null && own.length() > 0) {
            math.convert(own, home);
        }
    }

    private void add(TensorMath math, int member) {
        if (member != place) {
            set(math, homes[member], ofRows.get(member), first[member]);
            return;
        }
        for (Stretch rows : ownStretchesAtHome) {
            set(math, rows.message(), rows.together(), first[member]);
        }
    }

    private static void set(TensorMath math, Tensor to, Tensor from, boolean first) {
        if (first) {
            math.convert(to, from);
        } else {
            math.sum(to, from, to);
        }
    }
}
