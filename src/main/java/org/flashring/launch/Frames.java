package org.flashring.launch;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.Socket;

/** One end of a connection between two processes of a run: frames of [length, kind, payload], no longer than a mebibyte. */
final class Frames implements AutoCloseable {
    static final byte HELLO = 1;
    static final byte VERDICT = 2;
    static final byte DATA = 3;
    static final byte FAILURE = 4;
    static final byte GOODBYE = 5;

    private static final int LONGEST = 1 << 20;

    /** What arrived. */
    record Frame(byte kind, byte[] payload) {
        DataInputStream in() {
            return new DataInputStream(new ByteArrayInputStream(payload));
        }
    }

    /** Writes a payload. */
    interface Content {
        void write(DataOutputStream out) throws IOException;
    }

    private final Socket socket;
    private final DataInputStream in;
    private final DataOutputStream out;

    Frames(Socket socket) throws IOException {
        this.socket = socket;
        socket.setTcpNoDelay(true);
        in = new DataInputStream(socket.getInputStream());
        out = new DataOutputStream(socket.getOutputStream());
    }

    /** Sends a frame. */
    synchronized void send(byte kind, Content content) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        content.write(new DataOutputStream(bytes));
        if (bytes.size() > LONGEST) {
            throw new IOException("a message of " + bytes.size() + " bytes; the limit is " + LONGEST);
        }
        out.writeInt(bytes.size());
        out.writeByte(kind);
        bytes.writeTo(out);
        out.flush();
    }

    /** Returns the next frame; waits {@code millis} at most, 0 for ever. */
    Frame receive(long millis) throws IOException {
        socket.setSoTimeout(Math.toIntExact(Math.min(Integer.MAX_VALUE, millis)));
        int length = in.readInt();
        if (length < 0 || length > LONGEST) {
            throw new IOException("not a frame of FlashRing: length " + length);
        }
        byte kind = in.readByte();
        byte[] payload = new byte[length];
        in.readFully(payload);
        return new Frame(kind, payload);
    }

    /** Returns the next frame, which must be of the given kind. */
    Frame receive(byte kind, long millis) throws IOException {
        Frame frame = receive(millis);
        if (frame.kind() != kind) {
            throw new IOException("expected a message of kind " + kind + ", got " + frame.kind());
        }
        return frame;
    }

    @Override
    public void close() {
        try {
            socket.close();
        } catch (IOException e) {
            // nothing is left to be lost
        }
    }
}
