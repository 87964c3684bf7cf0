package org.flashring.comm.process;

import java.io.IOException;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.flashring.comm.CommunicationException;
import org.flashring.comm.Communicator;
import org.flashring.comm.transport.Deadline;
import org.flashring.comm.transport.TransportCommunicator;
import org.flashring.internal.Checks;
import org.flashring.launch.Environment;
import org.flashring.launch.Rendezvous;
import org.flashring.launch.Session;

/**
 * Groups whose ranks are processes that work on the host, on one machine or many: where a framework wants a process for
 * each trainer, and no GPUs.
 *
 * <pre>{@code
 * try (Communicator ranks = ProcessGroup.join(Environment.current(), plan.terms(), Duration.ofMinutes(10))) {
 *     trainOn(ranks);
 * }
 * }</pre>
 *
 * <p>Two processes that see the same files in {@code /dev/shm} exchange bytes through memory that they share there, in
 * files that are gone from the folder before anything is sent. Others, such as those on two hosts or in two containers,
 * use sockets. {@link Medium} forces sockets.
 *
 * <p>Sums have the bits of a {@link org.flashring.comm.local.LocalGroup}'s. What a rank sends may be overwritten once
 * it is on its way, whether or not the receiver has taken it.
 *
 * <p>A process that dies is noticed at once, one that stands still after the deadline; every call on every surviving
 * rank then throws a {@link CommunicationException} that names rank, operation and step. Once the process of rank 0 has
 * closed its communicators, others may go on; failures of one of them are then told to the rest as its end alone.
 */
public final class ProcessGroup {
    /** Making a group is given up after this, or the deadline if that is longer. */
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private ProcessGroup() {}

    /** Returns why processes of this host cannot share memory and have sockets alone; empty if they can. */
    public static String sharedMemoryUnavailabilityCause() {
        return Segment.unavailabilityCause();
    }

    /**
     * Returns this process's communicator in the group of all processes that were started together, once they have come
     * and agree on {@code terms}, through what {@value Medium#VARIABLE} says.
     *
     * @param environment who this process is
     * @param terms names and values that must be the same on all ranks, such as {@link org.flashring.plan.Plan#terms}
     * @param deadline how long an operation waits for its peers
     * @throws IllegalArgumentException if the deadline is not positive
     * @throws CommunicationException if the ranks disagree or do not come, or memory that they share has no room
     */
    public static Communicator join(Environment environment, Map<String, String> terms, Duration deadline) {
        return join(environment, terms, deadline, Medium.of(System.getenv()));
    }

    /** As {@link #join(Environment, Map, Duration)}, through {@code medium}. */
    public static Communicator join(
            Environment environment, Map<String, String> terms, Duration deadline, Medium medium) {
        Checks.notNull("environment", environment);
        return join(environment, terms, deadline, medium, Membership.ringBytes(environment.worldSize()));
    }

    /** As the other method; lanes through memory hold {@code ringBytes} bytes each way. */
    static Communicator join(
            Environment environment, Map<String, String> terms, Duration deadline, Medium medium, int ringBytes) {
        Deadline limit = Deadline.of(deadline);
        Map<String, String> all = new LinkedHashMap<>(Checks.notNull("terms", terms));
        all.put("medium", Checks.notNull("medium", medium).toString());
        Duration patience = deadline.compareTo(PATIENCE) > 0 ? deadline : PATIENCE;
        long end = System.nanoTime() + Math.min(Long.MAX_VALUE / 2, patience.toNanos());
        Session session = Rendezvous.join(environment, all, patience);
        Membership membership;
        try {
            membership = new Membership(session, limit, patience.toNanos(), bind(environment, session));
        } catch (RuntimeException e) {
            session.close();
            throw e;
        }
        Seat seat = new Seat(membership, "", environment.rank());
        try (Switchboard switchboard = membership.open()) {
            boolean sharing =
                    medium == Medium.AUTO && Segment.unavailabilityCause().isEmpty();
            Card own = new Card(
                    sharing ? Hosts.name() : "",
                    Hosts.addresses(session.address()),
                    switchboard.port(),
                    Card.newToken(),
                    0,
                    environment.rank(),
                    "");
            Card[] cards =
                    Arrays.stream(session.exchange(own.toBytes())).map(Card::of).toArray(Card[]::new);
            session.listen(membership::heard);
            return new TransportCommunicator(ProcessTransport.connect(
                    seat, switchboard, cards[0].token(), members(cards, own, session), ringBytes, end));
        } catch (IOException e) {
            CommunicationException failure =
                    seat.fail("rank " + environment.rank() + " cannot join the group: " + e.getMessage(), e);
            membership.close();
            throw failure;
        } catch (RuntimeException e) {
            membership.close();
            throw e;
        }
    }

    private static List<Switchboard.Member> members(Card[] cards, Card own, Session session) {
        List<Switchboard.Member> members = new ArrayList<>();
        for (int rank = 0; rank < cards.length; rank++) {
            List<InetAddress> addresses = new ArrayList<>(cards[rank].addresses());
            if (rank == 0 && session.master() != null) {
                addresses.remove(session.master());
                addresses.add(0, session.master());
            }
            boolean mayShare = !own.host().isEmpty() && own.host().equals(cards[rank].host());
            members.add(new Switchboard.Member(addresses, cards[rank].port(), mayShare));
        }
        return members;
    }

    /** Returns where this process listens, as rank 0 does at the rendezvous; null for all addresses. */
    private static InetAddress bind(Environment environment, Session session) {
        if (environment.meetsAtLoopback()) {
            return session.address() == null ? InetAddress.getLoopbackAddress() : session.address();
        }
        try {
            return environment.rank() > 0 || environment.bindAddress().isEmpty()
                    ? null
                    : InetAddress.getByName(environment.bindAddress());
        } catch (UnknownHostException e) {
            throw new CommunicationException(
                    "rank 0 cannot listen at " + environment.bindAddress() + ": this host does not know the name", e);
        }
    }
}
