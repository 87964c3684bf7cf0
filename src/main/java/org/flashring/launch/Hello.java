package org.flashring.launch;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.flashring.internal.Terms;

/** How a process introduces itself: who it is, and the terms on which it wants to work. */
record Hello(String runId, int rank, int worldSize, Map<String, String> terms) {
    private static final int MOST_TERMS = 1_000;

    void write(DataOutputStream out) throws IOException {
        out.writeUTF(runId);
        out.writeInt(rank);
        out.writeInt(worldSize);
        writeTerms(out, terms);
    }

    static void writeTerms(DataOutputStream out, Map<String, String> terms) throws IOException {
        out.writeInt(terms.size());
        for (Map.Entry<String, String> term : terms.entrySet()) {
            out.writeUTF(term.getKey());
            out.writeUTF(term.getValue());
        }
    }

    /** Returns what was written. */
    static Hello read(DataInputStream in) throws IOException {
        String runId = in.readUTF();
        int rank = in.readInt();
        int worldSize = in.readInt();
        return new Hello(runId, rank, worldSize, readTerms(in));
    }

    static Map<String, String> readTerms(DataInputStream in) throws IOException {
        int count = in.readInt();
        if (count < 0 || count > MOST_TERMS) {
            throw new IOException(count + " terms; the limit is " + MOST_TERMS);
        }
        Map<String, String> terms = new LinkedHashMap<>();
        for (int i = 0; i < count; i++) {
            terms.put(in.readUTF(), in.readUTF());
        }
        return terms;
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
                return Terms.sentence(
                        "world size", hello.rank, String.valueOf(hello.worldSize), String.valueOf(first.worldSize));
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
            String difference = Terms.difference(first.terms, hello.rank, hello.terms);
            if (difference != null) {
                return difference;
            }
        }
        return null;
    }
}
