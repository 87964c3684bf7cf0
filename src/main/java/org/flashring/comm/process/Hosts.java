package org.flashring.comm.process;

import java.net.InetAddress;
import java.net.NetworkInterface;
import java.net.SocketException;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import org.flashring.internal.BootId;

/** What tells this process's host from others, and by which addresses they may reach it. */
final class Hosts {
    private Hosts() {}

    /** Returns what all processes of this host say and no others do; empty if nobody can tell. */
    static String name() {
        return BootId.read();
    }

    /** Returns {@code first}, unless null, and the other addresses of this host that are not its loopback's. */
    static List<InetAddress> addresses(InetAddress first) {
        List<InetAddress> addresses = new ArrayList<>();
        if (first != null) {
            addresses.add(first);
        }
        try {
            for (NetworkInterface port : NetworkInterface.networkInterfaces().collect(Collectors.toList())) {
                if (port.isUp()) {
                    port.inetAddresses()
                            .filter(address -> !address.isLoopbackAddress() && !address.isLinkLocalAddress())
                            .filter(address -> !addresses.contains(address))
                            .forEach(addresses::add);
                }
            }
        } catch (SocketException e) {
            // the first one will have to do
        }
        return addresses;
    }
}
