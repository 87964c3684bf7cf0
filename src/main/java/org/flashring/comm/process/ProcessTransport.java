package org.flashring.comm.process;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Transfers;
import org.flashring.comm.transport.Collective;
import org.flashring.comm.transport.Transport;
import org.flashring.device.Device;
import org.flashring.internal.Made;
import org.flashring.internal.Terms;

/** A rank of a {@link ProcessGroup}. */
final class ProcessTransport implements Transport {
    private final Membership membership;
    private final Seat seat;
    private final List<Switchboard.Member> members; // by rank
    private final Lane[] lanes; // to each rank; null to this one
    private final ExchangeQueue exchanges;
    private final CollectiveQueue collectives;

    /** Takes the lanes over, by use and rank. */
    ProcessTransport(Seat seat, List<Switchboard.Member> members, Lane[][] lanesByUse) throws IOException {
        this.seat = seat;
        this.members = members;
        this.membership = seat.membership();
        lanes = lanesByUse[Switchboard.Use.COLLECTIVES.ordinal()];
        try (Made made = new Made()) {
            for (Lane[] ofUse : lanesByUse) {
                Arrays.stream(ofUse).filter(lane -> lane != null).forEach(made::add);
            }
            exchanges = made.add(new ExchangeQueue(seat, lanesByUse[Switchboard.Use.EXCHANGES.ordinal()]));
            collectives = new CollectiveQueue(seat, lanes);
            made.keep();
        }
        membership.add(this);
        exchanges.start();
    }

    /**
     * Returns this process's transport in a new group.
     *
     * @param members of the group, in order
     * @param token that lets them in
     * @throws CommunicationException if it cannot be made; then the membership has failed
     */
    static ProcessTransport connect(
            Seat seat,
            Switchboard switchboard,
            byte[] token,
            List<Switchboard.Member> members,
            int ringBytes,
            long end) {
        try {
            return new ProcessTransport(
                    seat,
                    members,
                    switchboard.connect(token, seat.rank(), members, ringBytes, seat.membership()::hasFailed, end));
        } catch (IOException e) {
            throw seat.fail("rank " + seat.rank() + " cannot join the group: " + e.getMessage(), e);
        }
    }

    @Override
    public int rank() {
        return seat.rank();
    }

    @Override
    public int worldSize() {
        return lanes.length;
    }

    @Override
    public Device device() {
        return Device.HOST;
    }

    @Override
    public void requireAlive() {
        membership.check();
    }

    @Override
    public void at(String phase, int step) {
        seat.at(phase, step);
    }

    @Override
    public void stream(long stream) {
        // the host has one
    }

    @Override
    public void post(long ticket, Transfers batch) {
        exchanges.post(ticket, batch);
    }

    @Override
    public void receive(long ticket, Transfers batch) {
        exchanges.receive(ticket, batch);
    }

    @Override
    public void release(long ticket, Transfers batch) {
        exchanges.release(ticket);
    }

    @Override
    public void collective(Collective collective) {
        collectives.run(collective);
    }

    @Override
    public void barrier() {
        collectives.barrier();
    }

    @Override
    public void synchronize() {
        membership.check();
    }

    @Override
    public void agree(long plan, Map<String, String> terms) {
        String operation = "agree on plan " + plan;
        byte[][] all = collectives.exchange(operation, TermsCode.encode(terms));
        for (int rank = 1; rank < all.length; rank++) {
            if (!Arrays.equals(all[0], all[rank])) {
                String difference = Terms.difference(TermsCode.decode(all[0]), rank, TermsCode.decode(all[rank]));
                if (difference != null) {
                    throw seat.fail("rank " + rank + " and rank 0 cannot " + operation + ": " + difference, null);
                }
            }
        }
    }

    @Override
    public Transport split(String name, int color, int key) {
        try (Switchboard switchboard = membership.open()) {
            Card own = new Card("", List.of(), switchboard.port(), Card.newToken(), color, key, name);
            byte[][] given = collectives.exchange("split", own.toBytes());
            Card[] cards = Arrays.stream(given).map(Card::of).toArray(Card[]::new);
            List<Integer> ranks = new ArrayList<>();
            for (int rank = 0; rank < cards.length; rank++) {
                if (cards[rank].color() == color) {
                    ranks.add(rank);
                }
            }
            ranks.sort(Comparator.<Integer>comparingInt(rank -> cards[rank].key())
                    .thenComparing(Comparator.naturalOrder()));
            Card first = cards[ranks.get(0)];
            List<Switchboard.Member> chosen = new ArrayList<>();
            for (int rank : ranks) {
                chosen.add(member(rank, cards[rank].port()));
            }
            String group = first.name().isEmpty() ? seat.group() : seat.group() + first.name() + ": ";
            return connect(
                    new Seat(membership, group, ranks.indexOf(rank())),
                    switchboard,
                    first.token(),
                    chosen,
                    Membership.ringBytes(chosen.size()),
                    System.nanoTime() + membership.patienceNanos());
        } catch (IOException e) {
            throw seat.fail(seat.sentence("cannot split: " + e.getMessage()), e);
        }
    }

    /** Returns how a rank is reached: at the address where it was before, or else at its others. */
    private Switchboard.Member member(int rank, int port) throws IOException {
        if (rank == rank()) {
            return new Switchboard.Member(List.of(), port, false);
        }
        List<InetAddress> addresses = new ArrayList<>(members.get(rank).addresses());
        InetAddress found = ((InetSocketAddress) lanes[rank].channel().getRemoteAddress()).getAddress();
        addresses.remove(found);
        addresses.add(0, found);
        return new Switchboard.Member(addresses, port, lanes[rank] instanceof SharedLane);
    }

    /** Returns what this rank waits in, for the message of a failure; empty if in nothing. */
    String place() {
        return seat.place();
    }

    @Override
    public void fail(String what, Throwable cause) {
        seat.fail(seat.sentence(what), cause);
    }

    /** Returns once this process touches no memory of its users for the group, which has failed. */
    void settle() {
        exchanges.settle();
        collectives.settle();
    }

    @Override
    public void close() {
        collectives.close();
        exchanges.close();
        membership.remove(this);
    }
}
