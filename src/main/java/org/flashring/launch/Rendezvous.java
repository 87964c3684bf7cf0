package org.flashring.launch;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.flashring.comm.CommunicationException;
import org.flashring.internal.Checks;
import org.flashring.internal.Native;

/**
 * Where the processes of a run meet before they communicate: rank 0 listens, the others connect, and all find out
 * whether they agree. Processes that disagree about the world, the release or the work to do get an error that says
 * how, on every rank, instead of a hang later.
 *
 * <p>Rank 0 listens at the loopback alone if all ranks are on one host, else at every address of its host, or at
 * {@link Environment#bindAddress} if that is given. The others look for it at {@link Environment#masterAddress}.
 *
 * <p>Where there is a {@link Environment#secret}, both sides prove to each other that they know it before anything else
 * is said; it is not sent. A process that does not is turned away, and rank 0 waits on for the right ones. What is said
 * later is not encrypted: use it inside a cluster.
 */
public final class Rendezvous {
    private static final int RETRY_MILLIS = 50;
    private static final int CONNECT_MILLIS = 5_000;
    private static final int GRACE_MILLIS =
            2_000; // how long a disagreement is told to ranks that come after it was found

    private Rendezvous() {}

    /**
     * Returns this process's links to the others, once all have come and agree.
     *
     * @param environment who this process is
     * @param terms names and values that must be the same on all ranks, such as {@link org.flashring.plan.Plan#terms}
     * @param deadline how long to wait for the others
     * @throws CommunicationException if they do not come within the deadline or disagree; the message says who or about
     *     what
     */
    public static Session join(Environment environment, Map<String, String> terms, Duration deadline) {
        Checks.notNull("environment", environment);
        Checks.notNull("terms", terms);
        Checks.notNull("deadline", deadline);
        Map<String, String> all = new LinkedHashMap<>();
        all.put("FlashRing release", Native.version());
        all.putAll(terms);
        Hello hello = new Hello(environment.runId(), environment.rank(), environment.worldSize(), all);
        long end = System.nanoTime() + deadline.toNanos();
        try {
            return environment.rank() == 0
                    ? lead(environment, hello, deadline, end)
                    : follow(environment, hello, deadline, end);
        } catch (IOException e) {
            throw new CommunicationException(
                    "rank " + environment.rank() + " failed at the rendezvous at " + place(environment) + ": "
                            + e.getMessage(),
                    e);
        }
    }

    private static String place(Environment environment) {
        return environment.masterAddress() + ":" + environment.masterPort();
    }

    private static long millisUntil(long end) {
        return Math.max(1, (end - System.nanoTime()) / 1_000_000);
    }

    private static Session lead(Environment environment, Hello own, Duration deadline, long end) throws IOException {
        int world = environment.worldSize();
        List<Hello> hellos = new ArrayList<>(List.of(own));
        List<Frames> links = new ArrayList<>();
        try (Door door = Route.open(environment)) {
            String problem = null;
            while (problem == null && hellos.size() < world) {
                if (!welcome(door, end, hellos, links)) {
                    String strangers = door.turnedAway();
                    problem = missing(hellos, world) + " not come within the " + deadline.toMillis()
                            + " ms that rank 0 waits at " + Route.door(environment)
                            + (strangers.isEmpty() ? "" : "; " + strangers);
                }
            }
            String disagreement = Hello.disagreement(hellos);
            problem = disagreement == null ? problem : disagreement;
            tell(links, problem);
            if (problem != null) {
                refuseLatecomers(door, hellos, links, problem);
                throw new CommunicationException("the ranks cannot start: " + problem);
            }
        } catch (IOException | RuntimeException e) {
            links.forEach(Frames::close);
            throw e;
        }
        Frames[] byRank = new Frames[world];
        for (int i = 1; i < hellos.size(); i++) {
            byRank[hellos.get(i).rank()] = links.get(i - 1);
        }
        return new Session(0, world, byRank, deadline);
    }

    /** Takes the next process in. Returns false after {@code end}. */
    private static boolean welcome(Door door, long end, List<Hello> hellos, List<Frames> links) throws IOException {
        Door.Guest guest = door.next(millisUntil(end));
        if (guest == null) {
            return false;
        }
        hellos.add(guest.hello());
        links.add(guest.link());
        return true;
    }

    private static String missing(List<Hello> hellos, int world) {
        List<String> absent = new ArrayList<>();
        for (int rank = 0; rank < world; rank++) {
            int wanted = rank;
            if (hellos.stream().noneMatch(hello -> hello.rank() == wanted)) {
                absent.add(String.valueOf(rank));
            }
        }
        return (absent.size() == 1 ? "rank " : "ranks ")
                + String.join(", ", absent)
                + (absent.size() == 1 ? " has" : " have");
    }

    private static void tell(List<Frames> links, String problem) {
        for (Frames link : links) {
            try {
                link.send(Frames.VERDICT, out -> out.writeUTF(problem == null ? "" : problem));
            } catch (IOException e) {
                link.close(); // gone already: its rank is noticed to be missing by the first who needs it
            }
        }
    }

    /** Tells those still under way, as far as the processes that came know of any, {@link #GRACE_MILLIS} at most. */
    private static void refuseLatecomers(Door door, List<Hello> hellos, List<Frames> links, String problem)
            throws IOException {
        long end = System.nanoTime() + GRACE_MILLIS * 1_000_000L;
        while (anyAbsent(hellos) && welcome(door, end, hellos, links)) {
            tell(links.subList(links.size() - 1, links.size()), problem);
        }
    }

    /** Returns whether a rank has not come, of the largest world that anyone speaks of. */
    private static boolean anyAbsent(List<Hello> hellos) {
        int world = hellos.stream().mapToInt(Hello::worldSize).max().orElseThrow();
        return hellos.stream()
                        .mapToInt(Hello::rank)
                        .filter(rank -> rank >= 0 && rank < world)
                        .distinct()
                        .count()
                < world;
    }

    private static Session follow(Environment environment, Hello own, Duration deadline, long end) throws IOException {
        Frames link = connect(environment, deadline, end);
        try {
            link.send(Frames.HELLO, own::write);
            String problem = link.receive(Frames.VERDICT, millisUntil(end) + GRACE_MILLIS)
                    .in()
                    .readUTF();
            if (!problem.isEmpty()) {
                throw new CommunicationException("the ranks cannot start: " + problem);
            }
        } catch (IOException | CommunicationException e) {
            link.close();
            throw e;
        }
        Frames[] byRank = new Frames[environment.worldSize()];
        byRank[0] = link;
        return new Session(environment.rank(), environment.worldSize(), byRank, deadline);
    }

    /** Returns a connection to rank 0, which may not listen yet, once both have shown that they belong to the run. */
    private static Frames connect(Environment environment, Duration deadline, long end) throws IOException {
        for (int attempt = 1; ; attempt++) {
            try {
                InetAddress[] masters = Route.addresses(environment);
                return connect(environment, masters[(attempt - 1) % masters.length], end);
            } catch (CommunicationException e) {
                throw new CommunicationException(
                        "rank " + environment.rank() + " was turned away by rank 0 at " + place(environment) + ": "
                                + e.getMessage(),
                        e);
            } catch (IOException e) {
                if (millisUntil(end) <= RETRY_MILLIS) {
                    throw new CommunicationException(
                            "rank " + environment.rank() + " cannot reach rank 0 at " + place(environment)
                                    + " within " + deadline.toMillis() + " ms: "
                                    + attempt + (attempt == 1 ? " attempt" : " attempts") + " at "
                                    + Route.known(environment)
                                    + ", the last one: " + e.getMessage() + Route.hint(environment),
                            e);
                }
                pause();
            }
        }
    }

    private static Frames connect(Environment environment, InetAddress master, long end) throws IOException {
        Socket socket = new Socket();
        try {
            socket.connect(new InetSocketAddress(master, environment.masterPort()), patience(end));
            if (socket.getLocalSocketAddress().equals(socket.getRemoteSocketAddress())) {
                throw new IOException("nobody listens there yet"); // TCP connected the port with itself
            }
            Frames link = new Frames(socket);
            Handshake.apply(link, environment.secret(), patience(end));
            return link;
        } catch (IOException | CommunicationException e) {
            socket.close();
            throw e;
        }
    }

    private static int patience(long end) {
        return (int) Math.min(millisUntil(end), CONNECT_MILLIS);
    }

    private static void pause() throws IOException {
        try {
            Thread.sleep(RETRY_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        }
    }
}
