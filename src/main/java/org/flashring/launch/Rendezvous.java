package org.flashring.launch;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.flashring.comm.CommunicationException;
import org.flashring.internal.Checks;
import org.flashring.internal.Native;

/**
 * Where the processes of a run meet before they communicate: rank 0 listens, the others connect, and all find out whether they
 * agree. Processes that disagree about the world, the release or the work to do get an error that says how, on every rank,
 * instead of a hang later.
 *
 * <p>Rank 0 listens on the interface of the master address alone. Nothing is encrypted: use it inside a cluster.
 */
public final class Rendezvous {
    private static final int RETRY_MILLIS = 50;
    private static final int GRACE_MILLIS = 2_000; // how long a disagreement is told to ranks that come after it was found

    private Rendezvous() {}

    /**
     * Returns this process's links to the others, once all have come and agree.
     *
     * @param environment who this process is
     * @param terms       names and values that must be the same on all ranks, such as {@link org.flashring.Plan#terms}
     * @param deadline    how long to wait for the others
     * @throws CommunicationException if they do not come within the deadline or disagree; the message says who or about what
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
            return environment.rank() == 0 ? lead(environment, hello, deadline, end) : follow(environment, hello, deadline, end);
        } catch (IOException e) {
            throw new CommunicationException("rank " + environment.rank() + " failed at the rendezvous at " + place(environment) + ": " + e.getMessage(), e);
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
        try (ServerSocket server = new ServerSocket()) {
            server.setReuseAddress(true);
            server.bind(new InetSocketAddress(InetAddress.getByName(environment.masterAddress()), environment.masterPort()), world + 16);
            String problem = null;
            while (problem == null && hellos.size() < world) {
                if (!accept(server, end, hellos, links)) {
                    problem = missing(hellos, world) + " not come within the " + deadline.toMillis() + " ms that rank 0 waits";
                }
            }
            String disagreement = Hello.disagreement(hellos);
            problem = disagreement == null ? problem : disagreement;
            tell(links, problem);
            if (problem != null) {
                refuseLatecomers(server, hellos, links, problem);
                links.forEach(Frames::close);
                throw new CommunicationException("the ranks cannot start: " + problem);
            }
        }
        Frames[] byRank = new Frames[world];
        for (int i = 1; i < hellos.size(); i++) {
            byRank[hellos.get(i).rank()] = links.get(i - 1);
        }
        return new Session(0, world, byRank, deadline);
    }

    /** Takes the next process in, strangers apart, whose connection is dropped. Returns false after {@code end}. */
    private static boolean accept(ServerSocket server, long end, List<Hello> hellos, List<Frames> links) throws IOException {
        while (System.nanoTime() < end) {
            Frames link;
            try {
                server.setSoTimeout(Math.toIntExact(millisUntil(end)));
                link = new Frames(server.accept());
            } catch (SocketTimeoutException e) {
                return false;
            }
            try {
                hellos.add(Hello.read(link.receive(Frames.HELLO, Math.min(GRACE_MILLIS, millisUntil(end))).in()));
                links.add(link);
                return true;
            } catch (IOException e) {
                refuse(link, e.getMessage());
            }
        }
        return false;
    }

    private static String missing(List<Hello> hellos, int world) {
        List<String> absent = new ArrayList<>();
        for (int rank = 0; rank < world; rank++) {
            int wanted = rank;
            if (hellos.stream().noneMatch(hello -> hello.rank() == wanted)) {
                absent.add(String.valueOf(rank));
            }
        }
        return (absent.size() == 1 ? "rank " : "ranks ") + String.join(", ", absent) + (absent.size() == 1 ? " has" : " have");
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

    private static void refuse(Frames link, String problem) {
        tell(List.of(link), problem);
        link.close();
    }

    /** Tells those still under way, as far as the processes that came know of any, {@link #GRACE_MILLIS} at most. */
    private static void refuseLatecomers(ServerSocket server, List<Hello> hellos, List<Frames> links, String problem) throws IOException {
        long end = System.nanoTime() + GRACE_MILLIS * 1_000_000L;
        while (anyAbsent(hellos) && accept(server, end, hellos, links)) {
            tell(links.subList(links.size() - 1, links.size()), problem);
        }
    }

    /** Returns whether a rank has not come, of the largest world that anyone speaks of. */
    private static boolean anyAbsent(List<Hello> hellos) {
        int world = hellos.stream().mapToInt(Hello::worldSize).max().orElseThrow();
        return hellos.stream().mapToInt(Hello::rank).filter(rank -> rank >= 0 && rank < world).distinct().count() < world;
    }

    private static Session follow(Environment environment, Hello own, Duration deadline, long end) throws IOException {
        Frames link = connect(environment, deadline, end);
        try {
            link.send(Frames.HELLO, own::write);
            String problem = link.receive(Frames.VERDICT, millisUntil(end) + GRACE_MILLIS).in().readUTF();
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

    /** Returns a connection to rank 0, which may not listen yet. */
    private static Frames connect(Environment environment, Duration deadline, long end) throws IOException {
        while (true) {
            Socket socket = new Socket();
            try {
                InetAddress master = InetAddress.getByName(environment.masterAddress());
                socket.connect(new InetSocketAddress(master, environment.masterPort()), Math.toIntExact(Math.min(millisUntil(end), 5_000)));
                return new Frames(socket);
            } catch (IOException e) {
                socket.close();
                if (millisUntil(end) <= RETRY_MILLIS) {
                    throw new CommunicationException("rank " + environment.rank() + " cannot reach rank 0 at " + place(environment)
                            + " within " + deadline.toMillis() + " ms: " + e.getMessage(), e);
                }
                pause();
            }
        }
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
