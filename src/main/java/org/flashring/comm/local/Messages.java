package org.flashring.comm.local;

import org.flashring.comm.Transfers;

/** Whether what a batch sends to a rank is what that rank's batch receives. */
final class Messages {
    private Messages() {}

    /** Returns how they differ, as what rank {@code to} did; null if they do not. */
    static String difference(int from, Transfers sent, int to, Transfers expected) {
        int sends = 0;
        int receives = 0;
        int send = sent.nextTo(to, 0);
        int receive = expected.nextFrom(from, 0);
        while (send < sent.sends() || receive < expected.receives()) {
            boolean both = send < sent.sends() && receive < expected.receives();
            if (both && sent.sendBytes(send) != expected.receiveBytes(receive)) {
                return "expected " + expected.receiveBytes(receive) + " bytes from rank " + from + ", which sends "
                        + sent.sendBytes(send);
            }
            sends += send < sent.sends() ? 1 : 0;
            receives += receive < expected.receives() ? 1 : 0;
            send = sent.nextTo(to, send + 1);
            receive = expected.nextFrom(from, receive + 1);
        }
        return sends == receives
                ? null
                : "expected " + receives + " messages from rank " + from + ", which sends " + sends;
    }
}
