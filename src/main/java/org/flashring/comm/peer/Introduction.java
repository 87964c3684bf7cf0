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

    Introduction(Transport control) {
        this.control = control;
        cards = Exports.direct(control.worldSize() * CARD);
    }

    /**
     * Connects {@code signals} to those of all ranks, and notes the process of each; {@code untilIdle} is that of
     * {@link Imports#address}. Returns why that cannot be, the same on all ranks; empty if all have.
     */
    static String of(Transport control, PeerProcess process, Signals signals, int[] processes, Runnable untilIdle) {
        Introduction introduction = new Introduction(control);
        String problem = process.problem();
        if (problem.isEmpty()) {
            try {
                process.exports().describe(signals.address(), signals.bytes(), introduction.cards, introduction.own());
            } catch (IllegalArgumentException | IllegalStateException e) {
                problem = e.getMessage();
            }
        }
        String cause = introduction.exchange(process.number(), process.host(), problem);
        return cause.isEmpty() ? introduction.agree(introduction.open(process, signals, processes, untilIdle)) : cause;
    }

    private int own() {
        return control.rank() * CARD;
    }

    /**
     * Tells all ranks this one's process and host, and why it has no words to show unless {@code problem} is empty.
     * Returns the first rank's problem, or who is on another host.
     */
    String exchange(int process, String host, String problem) {
        cards.putLong(own() + PROCESS, process);
        write(own() + HOST, host);
        return agree(problem);
    }

    /** Returns the first problem in rank order of those that ranks give here, or who is on another host. */
    String agree(String problem) {
        write(own() + PROBLEM, problem);
        meet();
        return problem();
    }

    private void meet() {
        long address = Native.address(cards);
        control.collective(new Collective(control.worldSize()).meeting("connect", address + own(), CARD, address));
    }

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
    private String open(PeerProcess process, Signals signals, int[] processes, Runnable untilIdle) {
        for (int rank = 0; rank < control.worldSize(); rank++) {
            processes[rank] = (int) cards.getLong(rank * CARD + PROCESS);
            if (rank != control.rank()) {
                try {
                    signals.connect(rank, process.imports().address(processes[rank], cards, rank * CARD, untilIdle));
                } catch (IllegalStateException e) {
                    return process.device() + " cannot open the memory of rank " + rank + ": " + e.getMessage();
                }
            }
        }
        return "";
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
