package org.flashring.comm.peer;

import java.nio.ByteBuffer;
import org.flashring.comm.transport.Collective;
import org.flashring.comm.transport.Transport;
import org.flashring.internal.Native;

/**
 * What each rank tells all others before they run a collective: the letter of what it brings, the bytes of every rank's
 * part, and what it has {@link Freed}.
 */
final class Cards {
    private final Transport control;
    private final int rank;
    private final int bytes; // of a card
    private final ByteBuffer cards; // by rank
    private final long address;
    private final Collective meeting;

    Cards(Transport control) {
        this.control = control;
        rank = control.rank();
        bytes = Letter.LENGTH + control.worldSize() * Long.BYTES + Freed.LENGTH;
        cards = Exports.direct(Math.multiplyExact(control.worldSize(), bytes));
        address = Native.address(cards);
        meeting = new Collective(control.worldSize());
    }

    /** Exchanges the cards of a collective with all ranks, on the host. */
    void exchange(Collective collective, Exports exports, Freed freed) {
        exports.describe(collective.send(), brought(collective), cards, letter(rank));
        for (int part = 0; part < control.worldSize(); part++) {
            cards.putLong(part(rank, part), collective.bytes(part));
        }
        freed.write(cards, freed(rank));
        control.collective(meeting.meeting(collective.operation(), address + letter(rank), bytes, address));
    }

    /** Returns the bytes that this rank brings. */
    private long brought(Collective collective) {
        return switch (collective.kind()) {
            case ALL_GATHER -> collective.bytes(rank);
            case ALL_REDUCE -> collective.bytes(0);
            case ALL_TO_ALL, REDUCE_SCATTER -> collective.offset(control.worldSize());
        };
    }

    private int part(int of, int part) {
        return letter(of) + Letter.LENGTH + part * Long.BYTES;
    }

    /** Returns where is what a rank has freed. */
    int freed(int of) {
        return part(of, control.worldSize());
    }

    ByteBuffer letters() {
        return cards;
    }

    /** Returns where the letter of a rank is. */
    int letter(int of) {
        return of * bytes;
    }

    /** Returns how this rank's call differs from a peer's, as what this rank did; null if none does. */
    String difference(Collective own) {
        int parts = own.kind() == Collective.Kind.ALL_REDUCE ? 1 : control.worldSize();
        for (int peer = 0; peer < control.worldSize(); peer++) {
            for (int part = 0; part < parts; part++) {
                long theirs = cards.getLong(part(peer, part));
                if (theirs != own.bytes(part)) {
                    return "calls " + own.operation() + " with " + own.bytes(part) + " bytes"
                            + (own.even() ? "" : " for rank " + part) + ", rank " + peer + " with " + theirs;
                }
            }
        }
        return null;
    }
}
