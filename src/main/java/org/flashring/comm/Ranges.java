package org.flashring.comm;

import org.flashring.DType;
import org.flashring.internal.Checks;

/** The checks of what verbs are given, the same for every communicator. */
final class Ranges {
    private Ranges() {}

    static void exchange(int worldSize, long send, long sendBytes, int to, long receive, long receiveBytes, int from) {
        Checks.between("to", to, 0, worldSize - 1L);
        Checks.between("from", from, 0, worldSize - 1L);
        address("send", send, Checks.atLeast("sendBytes", sendBytes, 0), 1);
        address("receive", receive, Checks.atLeast("receiveBytes", receiveBytes, 0), 1);
        apart(send, sendBytes, receive, receiveBytes);
    }

    static void allGather(int rank, int worldSize, long send, long bytes, long receive) {
        address("send", send, Checks.atLeast("bytes", bytes, 0), 1);
        long total = Checks.product("received bytes", bytes, worldSize);
        address("receive", receive, total, 1);
        if (send != receive + rank * bytes) {
            apart(send, bytes, receive, total);
        }
    }

    static void allToAll(int worldSize, long send, long bytes, long receive) {
        long total = Checks.product("sent bytes", Checks.atLeast("bytes", bytes, 0), worldSize);
        address("send", send, total, 1);
        address("receive", receive, total, 1);
        apart(send, total, receive, total);
    }

    /** Returns the bytes of {@code count} elements at {@code data}. */
    static long allReduce(long data, long count, DType dtype) {
        long bytes = bytes(count, dtype);
        address("data", data, bytes, dtype.bytes());
        return bytes;
    }

    /** Returns the bytes of the {@code count} elements that a rank gets. */
    static long reduceScatter(int rank, int worldSize, long send, long count, DType dtype, long receive) {
        long bytes = bytes(count, dtype);
        long total = Checks.product("sent bytes", bytes, worldSize);
        address("send", send, total, dtype.bytes());
        address("receive", receive, bytes, dtype.bytes());
        if (receive != send + rank * bytes) {
            apart(send, total, receive, bytes);
        }
        return bytes;
    }

    private static long bytes(long count, DType dtype) {
        Checks.notNull("dtype", dtype);
        return Checks.product("bytes", Checks.atLeast("count", count, 0), dtype.bytes());
    }

    private static void address(String name, long address, long bytes, int alignment) {
        if (bytes > 0 && (address <= 0 || address % alignment != 0)) {
            throw Checks.broken(name, address, "be the address of " + bytes + " bytes, a multiple of " + alignment);
        }
        if (address > Long.MAX_VALUE - bytes) {
            throw Checks.broken("end of " + name, address + " + " + bytes, "fit in 63 bits");
        }
    }

    private static void apart(long send, long sendBytes, long receive, long receiveBytes) {
        if (sendBytes > 0 && receiveBytes > 0 && send < receive + receiveBytes && receive < send + sendBytes) {
            throw Checks.broken("receive", receive, "not overlap the " + sendBytes + " bytes at send = " + send);
        }
    }
}
