package org.flashring.comm.process;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.flashring.internal.Native;

/**
 * What goes before a message or a rank's part of a collective, so that both ends know of the same: a tag, three numbers
 * and the name of the operation. Kept and set anew; one that arrives may do so in pieces.
 */
final class Header {
    static final int BYTES = 80;

    /** The tag of who leaves: nothing follows. */
    static final long GOODBYE = -1;

    private static final int NAME = 32;

    private final ByteBuffer bytes = ByteBuffer.allocateDirect(BYTES).order(ByteOrder.LITTLE_ENDIAN);
    private final long address = Native.address(bytes);
    private int moved = BYTES;

    /** Sets the fields, none of which has been moved yet. */
    void set(long tag, long size, int ordinal, int count, String operation) {
        bytes.putLong(0, tag).putLong(8, size).putInt(16, ordinal).putInt(20, count);
        for (int i = NAME; i < BYTES; i++) {
            bytes.put(i, (byte) (i - NAME < operation.length() ? operation.charAt(i - NAME) : 0));
        }
        moved = 0;
    }

    /** Makes room for one that is to arrive. */
    void clear() {
        moved = 0;
    }

    /** Moves more of it out. Returns whether anything moved. */
    boolean put(Lane lane) {
        long more = lane.put(address + moved, BYTES - moved);
        moved += (int) more;
        return more > 0;
    }

    /** Moves more of it in. Returns whether anything moved. */
    boolean take(Lane lane) {
        long more = lane.take(address + moved, BYTES - moved);
        moved += (int) more;
        return more > 0;
    }

    /** Returns whether all of it has been moved. */
    boolean isWhole() {
        return moved == BYTES;
    }

    boolean isGoodbye() {
        return tag() == GOODBYE;
    }

    long tag() {
        return bytes.getLong(0);
    }

    long size() {
        return bytes.getLong(8);
    }

    int ordinal() {
        return bytes.getInt(16);
    }

    int count() {
        return bytes.getInt(20);
    }

    /** Returns whether it is of this operation; names are told apart by what of them goes in. */
    boolean isOf(String operation) {
        for (int i = NAME; i < BYTES; i++) {
            if (bytes.get(i) != (byte) (i - NAME < operation.length() ? operation.charAt(i - NAME) : 0)) {
                return false;
            }
        }
        return true;
    }

    /** Returns the name of the operation, for the message of a failure. */
    String operation() {
        StringBuilder name = new StringBuilder();
        for (int i = NAME; i < BYTES && bytes.get(i) != 0; i++) {
            name.append((char) bytes.get(i));
        }
        return name.toString();
    }
}
