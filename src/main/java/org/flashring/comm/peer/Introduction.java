package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.flashring.comm.transport.Collective;
import org.flashring.comm.transport.Transport;
import org.flashring.internal.Native;

/** How the ranks of a new group reach each other's words, or find out together that one of them cannot. */
final class Introduction {
    private static final int TEXT = 256;
    private static final int PROCESS = Letter.LENGTH;
    private static final int HOST = PROCESS + Long.BYTES;
    private static final int PROBLEM = HOST + TEXT;
    private static final int CARD = PROBLEM + TEXT;

    private final Transport control;
    private final ByteBuffer cards;

    private Introduction(Transport control) {
        this.control = control;
        cards = Exports.direct(control.worldSize() * CARD);
    }

    /**
     * Connects {@code signals} to those of all ranks, and notes the process of each. Returns why that cannot be, the
     * same on all ranks; empty if all have.
     */
    static String of(Transport control, PeerProcess process, Signals signals, int[] processes) {
        Introduction introduction = new Introduction(control);
        introduction.exchange(process, signals);
        String cause = introduction.problem();
        if (!cause.isEmpty()) {
            return cause;
        }
        return introduction.agreed(introduction.open(process, signals, processes));
    }

    /** Tells all ranks this one's process, host and words, or why it has none to show. */
    private void exchange(PeerProcess process, Signals signals) {
        int own = control.rank() * CARD;
        String problem = process.problem();
        if (problem.isEmpty()) {
            try {
                process.exports().describe(signals.address(), signals.bytes(), cards, own);
            } catch (IllegalArgumentException | IllegalStateException e) {
                problem = e.getMessage();
            }
        }
        cards.putLong(own + PROCESS, process.number());
        write(own + HOST, process.host());
        write(own + PROBLEM, problem);
        meet();
    }

    private void meet() {
        long address = Native.address(cards);
        control.collective(new Collective(control.worldSize())
                .meeting("connect", address + (long) control.rank() * CARD, CARD, address));
    }

    /** Returns the first rank's problem, or who is on another host; empty if there is none. */
    private String problem() {
        for (int rank = 0; rank < control.worldSize(); rank++) {
            String problem = read(rank * CARD + PROBLEM);
            if (!problem.isEmpty()) {
                return "rank " + rank + ": " + problem;
            }
            String host = read(rank * CARD + HOST);
            if (host.isEmpty() || !host.equals(read(HOST))) {
                return "rank " + rank + " is on another host than rank 0";
            }
        }
        return "";
    }

    /** Opens the words of all ranks. Returns why this rank cannot; empty if it has. */
    private String open(PeerProcess process, Signals signals, int[] processes) {
        for (int rank = 0; rank < control.worldSize(); rank++) {
            processes[rank] = (int) cards.getLong(rank * CARD + PROCESS);
            if (rank != control.rank()) {
                try {
                    signals.connect(rank, process.imports().address(processes[rank], cards, rank * CARD));
                } catch (IllegalStateException e) {
                    return process.device() + " cannot open the memory of rank " + rank + ": " + e.getMessage();
                }
            }
        }
        return "";
    }

    /** Returns the first rank's problem once all have opened or could not. */
    private String agreed(String problem) {
        write(control.rank() * CARD + PROBLEM, problem);
        meet();
        return problem();
    }

    private void write(int at, String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        for (int i = 0; i < TEXT; i++) {
            cards.put(at + i, i < Math.min(bytes.length, TEXT - 1) ? bytes[i] : 0);
        }
    }

    private String read(int at) {
        byte[] bytes = new byte[TEXT];
        cards.get(at, bytes);
        return new String(bytes, StandardCharsets.UTF_8).replace("\0", "");
    }
}
