package org.flashring.launch;

import java.io.IOException;
import java.net.BindException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.UnknownHostException;
import java.util.Arrays;
import java.util.stream.Collectors;
import org.flashring.comm.CommunicationException;

/** The way to rank 0: where it listens, where the others look for it, and words for what may be wrong with that. */
final class Route {
    private Route() {}

    /**
     * Opens rank 0's door: at the bind address if one is given; at the master address alone where that is this host's
     * loopback by its own words, as it is when all ranks are on one host; else at every address of this host, since
     * what the others reach it by may be a service's, or what this host calls itself the loopback, as Debian does.
     *
     * @throws CommunicationException if it cannot listen there; the message says why
     */
    static Door open(Environment environment) {
        String bind = environment.bindAddress();
        String host =
                !bind.isEmpty() ? bind : isLoopback(environment.masterAddress()) ? environment.masterAddress() : null;
        int port = environment.masterPort();
        try {
            InetSocketAddress address = host == null
                    ? new InetSocketAddress(port)
                    : new InetSocketAddress(InetAddress.getByName(host), port);
            return new Door(address, environment.worldSize(), environment.secret());
        } catch (IOException e) {
            throw new CommunicationException(
                    "rank 0 cannot listen at "
                            + (host == null ? "" : host + ", ") + "port " + port
                            + (bind.isEmpty() ? "" : " (" + Environment.BIND_VARIABLE + ")") + ": "
                            + (e instanceof UnknownHostException ? "this host does not know the name" : e.getMessage())
                            + (bind.isEmpty() && e instanceof BindException ? "; set MASTER_PORT to a free port" : ""),
                    e);
        }
    }

    /** Returns where rank 0 listens, in words. */
    static String door(Environment environment) {
        String port = "port " + environment.masterPort();
        if (!environment.bindAddress().isEmpty()) {
            return environment.bindAddress() + ", " + port + " (" + Environment.BIND_VARIABLE
                    + "); the others look for it at " + known(environment);
        }
        return isLoopback(environment.masterAddress())
                ? environment.masterAddress() + ", " + port + ", where processes of this host alone reach it"
                : port + " of every address of its host; the others look for it at " + known(environment);
    }

    /** Returns what the master address means on this host, in words. */
    static String known(Environment environment) {
        String host = environment.masterAddress();
        if (isLiteral(host)) {
            return host;
        }
        try {
            return host + ", which is "
                    + Arrays.stream(addresses(environment))
                            .map(InetAddress::getHostAddress)
                            .collect(Collectors.joining(" and "))
                    + " on this host";
        } catch (UnknownHostException e) {
            return host + ", a name that this host does not know";
        }
    }

    /**
     * Returns what to do about a master address by which this host finds itself, if it is not rank 0's: empty if it
     * does not.
     */
    static String hint(Environment environment) {
        try {
            return Arrays.stream(addresses(environment)).allMatch(InetAddress::isLoopbackAddress)
                    ? "; that is this host itself: if rank 0 is on another one, set MASTER_ADDR to an address by which"
                            + " all hosts reach it"
                    : "";
        } catch (UnknownHostException e) {
            return "; set MASTER_ADDR to a name or an address by which all hosts reach rank 0's";
        }
    }

    static InetAddress[] addresses(Environment environment) throws UnknownHostException {
        return InetAddress.getAllByName(environment.masterAddress());
    }

    /**
     * Returns whether {@code host} means the loopback wherever it is read; a name that this host alone resolves to it
     * does not.
     */
    static boolean isLoopback(String host) {
        try {
            return host.equalsIgnoreCase("localhost")
                    || isLiteral(host) && InetAddress.getByName(host).isLoopbackAddress();
        } catch (UnknownHostException e) {
            return false;
        }
    }

    private static boolean isLiteral(String host) {
        return host.indexOf(':') >= 0 || host.matches("[0-9.]+");
    }
}
