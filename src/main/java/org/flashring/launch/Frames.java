package org.flashring.launch;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;

/**
 * One end of a connection between two processes of a run: frames of [length, kind, payload], no longer than a mebibyte.
 */
final class Frames implements AutoCloseable {
    static final byte HELLO = 1;
    static final byte VERDICT = 2;
    static final byte DATA = 3;
    static final byte FAILURE = 4;
    static final byte GOODBYE = 5;
    static final byte CHALLENGE = 6;
    static final byte PROOF = 7;
    static final byte WELCOME = 8;
    static final byte TERMS = 9;
    static final byte AGREED = 10;
    static final byte LEAVE = 11;

    private static final int LONGEST = 1 << 20;
    private static final int LONGEST_OF_A_STRANGER = 1 << 12;
    private static final int HEADER = 5;

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
    private final InputStream in;
    private final OutputStream out;
    private int longest = LONGEST_OF_A_STRANGER;

    Frames(Socket socket) throws IOException {
        this.socket = socket;
        socket.setTcpNoDelay(true);
        in = socket.getInputStream();
        out = socket.getOutputStream();
    }

    /** Lets longer frames in, from now on: the other end has shown that it belongs to the run. */
    void trust() {
        longest = LONGEST;
    }

    /** Returns the address of the other end. */
    String peer() {
        return remote().getHostAddress();
    }

    InetAddress remote() {
        return socket.getInetAddress();
    }

    InetAddress local() {
        return socket.getLocalAddress();
    }

    /** Sends a frame. */
    synchronized void send(byte kind, Content content) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        bytes.write(new byte[HEADER]);
        content.write(new DataOutputStream(bytes));
        int length = bytes.size() - HEADER;
        if (length > LONGEST) {
            throw new IOException("a message of " + length + " bytes; the limit is " + LONGEST);
        }
        byte[] frame = bytes.toByteArray(); // written at once, so that it travels in one packet
        ByteBuffer.wrap(frame).putInt(length).put(kind);
        out.write(frame);
    }

    /** Returns the next frame once all of it is there; waits {@code millis} at most, 0 for ever. */
    Frame receive(long millis) throws IOException {
        long end = System.nanoTime() + millis * 1_000_000;
        ByteBuffer header = ByteBuffer.wrap(read(HEADER, millis, end));
        int length = header.getInt();
        if (length < 0 || length > longest) {
            throw new IOException("not a frame of FlashRing: length " + length);
        }
        return new Frame(header.get(), read(length, millis, end));
    }

    private byte[] read(int length, long millis, long end) throws IOException {
        byte[] bytes = new byte[length];
        for (int got = 0; got < length; ) {
            long left = millis == 0 ? 0 : Math.max(1, (end - System.nanoTime()) / 1_000_000);
            if (millis != 0 && System.nanoTime() >= end) {
                throw new SocketTimeoutException("Read timed out");
            }
            socket.setSoTimeout(Math.toIntExact(Math.min(Integer.MAX_VALUE, left)));
            int more = in.read(bytes, got, length - got);
            if (more < 0) {
                throw new EOFException("the connection was closed");
            }
            got += more;
        }
        return bytes;
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
