package org.flashring.comm.transport;

import org.flashring.DType;
import org.flashring.comm.Transfers;
import org.flashring.internal.Checks;

/** The checks of what verbs are given, the same for every communicator. */
final class TransferChecks {
    private TransferChecks() {}

    static void exchange(int worldSize, long send, long sendBytes, int to, long receive, long receiveBytes, int from) {
        Checks.between("to", to, 0, worldSize - 1L);
        Checks.between("from", from, 0, worldSize - 1L);
        Checks.address("send", send, Checks.atLeast("sendBytes", sendBytes, 0), 1);
        Checks.address("receive", receive, Checks.atLeast("receiveBytes", receiveBytes, 0), 1);
        apart(send, sendBytes, receive, receiveBytes);
    }

    static void batch(int worldSize, Transfers batch) {
        Checks.notNull("batch", batch);
        for (int i = 0; i < batch.sends(); i++) {
            Checks.between("to", batch.to(i), 0, worldSize - 1L);
        }
        for (int i = 0; i < batch.receives(); i++) {
            Checks.between("from", batch.from(i), 0, worldSize - 1L);
        }
    }

    static void allGather(int rank, int worldSize, long send, long bytes, long receive) {
        Checks.address("send", send, Checks.atLeast("bytes", bytes, 0), 1);
        gathered(send, bytes, receive, Checks.product("received bytes", bytes, worldSize), rank * bytes);
    }

    static void allGather(int rank, int worldSize, long send, long[] bytes, long receive) {
        long total = total("bytes", bytes, worldSize, 1, "received bytes");
        Checks.address("send", send, bytes[rank], 1);
        gathered(send, bytes[rank], receive, total, before(bytes, rank));
    }

    /** Checks where {@code total} bytes are received; they may hold those that are sent where they belong. */
    private static void gathered(long send, long bytes, long receive, long total, long offset) {
        Checks.address("receive", receive, total, 1);
        if (send != receive + offset) {
            apart(send, bytes, receive, total);
        }
    }

    static void allToAll(int worldSize, long send, long bytes, long receive) {
        long total = Checks.product("sent bytes", Checks.atLeast("bytes", bytes, 0), worldSize);
        Checks.address("send", send, total, 1);
        Checks.address("receive", receive, total, 1);
        apart(send, total, receive, total);
    }

    static void allReduce(long data, long count, DType dtype) {
        Checks.address("data", data, bytes(count, dtype), dtype.bytes());
    }

    static void reduceScatter(int rank, int worldSize, long send, long count, DType dtype, long receive) {
        long bytes = bytes(count, dtype);
        scattered(send, Checks.product("sent bytes", bytes, worldSize), receive, bytes, rank * bytes, dtype);
    }

    static void reduceScatter(int rank, int worldSize, long send, long[] counts, DType dtype, long receive) {
        int element = Checks.notNull("dtype", dtype).bytes();
        long total = total("counts", counts, worldSize, element, "sent bytes");
        scattered(send, total, receive, counts[rank] * element, before(counts, rank) * element, dtype);
    }

    /** Checks where {@code bytes} are received; they may be those of what is sent that belong to this rank. */
    private static void scattered(long send, long total, long receive, long bytes, long offset, DType dtype) {
        Checks.address("send", send, total, dtype.bytes());
        Checks.address("receive", receive, bytes, dtype.bytes());
        if (receive != send + offset) {
            apart(send, total, receive, bytes);
        }
    }

    private static long bytes(long count, DType dtype) {
        Checks.notNull("dtype", dtype);
        return Checks.product("bytes", Checks.atLeast("count", count, 0), dtype.bytes());
    }

    /** Returns the bytes of one part for each rank, of {@code element} bytes a unit. */
    private static long total(String name, long[] parts, int worldSize, int element, String what) {
        Checks.notNull(name, parts);
        if (parts.length != worldSize) { // names are joined only when they are told: that makes objects
            throw Checks.broken(name + ".length", parts.length, "be " + worldSize + ", one for each rank");
        }
        long total = 0;
        for (int rank = 0; rank < worldSize; rank++) {
            if (parts[rank] < 0) {
                throw Checks.broken(name + "[" + rank + "]", parts[rank], "be at least 0");
            }
            total = Checks.sum(what, total, Checks.product(what, parts[rank], element));
        }
        return total;
    }

    private static long before(long[] parts, int rank) {
        long sum = 0;
        for (int i = 0; i < rank; i++) {
            sum += parts[i];
        }
        return sum;
    }

    private static void apart(long send, long sendBytes, long receive, long receiveBytes) {
        Checks.apart("receive", receive, receiveBytes, "send", send, sendBytes);
    }
}
