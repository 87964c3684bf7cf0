package org.flashring.launch;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/** How a process introduces itself: who it is, and the terms on which it wants to work. */
record Hello(String runId, int rank, int worldSize, Map<String, String> terms) {
    private static final int MAGIC = 0x464c5247; // "FLRG"
    private static final int PROTOCOL = 1;
    private static final int MOST_TERMS = 1_000;

    void write(DataOutputStream out) throws IOException {
        out.writeInt(MAGIC);
        out.writeInt(PROTOCOL);
        out.writeUTF(runId);
        out.writeInt(rank);
        out.writeInt(worldSize);
        out.writeInt(terms.size());
        for (Map.Entry<String, String> term : terms.entrySet()) {
            out.writeUTF(term.getKey());
            out.writeUTF(term.getValue());
        }
    }

    /** Returns what was written; throws {@link IOException} if it is not FlashRing's, or of a release that speaks differently. */
    static Hello read(DataInputStream in) throws IOException {
        if (in.readInt() != MAGIC) {
            throw new IOException("not a process of FlashRing");
        }
        int protocol = in.readInt();
        if (protocol != PROTOCOL) {
            throw new IOException("rendezvous protocol " + protocol + "; this release speaks " + PROTOCOL);
        }
        String runId = in.readUTF();
        int rank = in.readInt();
        int worldSize = in.readInt();
        int count = in.readInt();
        if (count < 0 || count > MOST_TERMS) {
            throw new IOException(count + " terms; the limit is " + MOST_TERMS);
        }
        Map<String, String> terms = new LinkedHashMap<>();
        for (int i = 0; i < count; i++) {
            terms.put(in.readUTF(), in.readUTF());
        }
        return new Hello(runId, rank, worldSize, terms);
    }

    /** Returns how {@code all}, rank 0 first, disagree; null if they do not. */
    static String disagreement(List<Hello> all) {
        Hello first = all.get(0);
        boolean[] present = new boolean[first.worldSize];
        for (Hello hello : all) {
            if (!hello.runId.equals(first.runId)) {
                return "rank " + hello.rank + " is of run '" + hello.runId + "', rank 0 of run '" + first.runId + "'";
            }
            if (hello.worldSize != first.worldSize) {
                return difference(hello.rank, "world size", String.valueOf(hello.worldSize), String.valueOf(first.worldSize));
            }
            if (hello.rank < 0 || hello.rank >= first.worldSize) {
                return "a process calls itself rank " + hello.rank + " of " + first.worldSize;
            }
            if (present[hello.rank]) {
                return "two processes call themselves rank " + hello.rank;
            }
            present[hello.rank] = true;
        }
        for (Hello hello : all) {
            for (String name : first.terms.keySet()) {
                if (!Objects.equals(hello.terms.get(name), first.terms.get(name))) {
                    return difference(hello.rank, name, hello.terms.get(name), first.terms.get(name));
                }
            }
            for (String name : hello.terms.keySet()) {
                if (!first.terms.containsKey(name)) {
                    return difference(hello.rank, name, hello.terms.get(name), null);
                }
            }
        }
        return null;
    }

    private static String difference(int rank, String name, String value, String expected) {
        return name + " is " + (value == null ? "not given" : value) + " on rank " + rank + ", "
                + (expected == null ? "not given" : expected) + " on rank 0";
    }
}
