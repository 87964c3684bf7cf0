package org.flashring.comm.process;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.SocketChannel;
import org.flashring.internal.Native;

/** A lane through its connection, with a buffer each way: the connection takes Java's buffers alone, not addresses. */
final class SocketLane extends Lane {
    private static final int CAPACITY = 128 << 10;

    private final ByteBuffer out = ByteBuffer.allocateDirect(CAPACITY); // being filled
    private final ByteBuffer in = ByteBuffer.allocateDirect(CAPACITY).limit(0); // being emptied
    private final long outAddress = Native.address(out);
    private final long inAddress = Native.address(in);

    SocketLane(SocketChannel channel) {
        super(channel);
    }

    @Override
    long put(long from, long bytes) {
        int moved = (int) Math.min(bytes, out.remaining());
        if (moved > 0) {
            copy(outAddress + out.position(), from, moved);
            out.position(out.position() + moved);
        }
        return moved;
    }

    @Override
    long take(long to, long bytes) {
        int moved = (int) Math.min(bytes, in.remaining());
        if (moved > 0) {
            copy(to, inAddress + in.position(), moved);
            in.position(in.position() + moved);
        }
        return moved;
    }

    @Override
    boolean pump() {
        boolean sent = send();
        return fill() || sent;
    }

    private boolean send() {
        if (out.position() == 0) {
            return false;
        }
        out.flip();
        try {
            return channel().write(out) > 0;
        } catch (IOException e) {
            return false; // nobody is there: reading tells
        } finally {
            out.compact();
        }
    }

    private boolean fill() {
        if (in.hasRemaining() || connectionEnded()) {
            return false;
        }
        in.clear();
        int read = 0;
        try {
            read = channel().read(in);
            if (read < 0) {
                endConnection();
            }
        } catch (IOException e) {
            endConnection();
        } finally {
            in.flip();
        }
        return read > 0;
    }

    @Override
    boolean isFlushed() {
        return out.position() == 0;
    }

    @Override
    void arm(boolean roomWanted) {
        interest((in.hasRemaining() || connectionEnded() ? 0 : SelectionKey.OP_READ)
                | (isFlushed() ? 0 : SelectionKey.OP_WRITE));
    }

    @Override
    void woken() {
        // what is here is seen by pump
    }

    @Override
    void fail() {
        try {
            channel().shutdownOutput();
        } catch (IOException e) {
            // the peer has seen the end already
        }
    }

    /** A goodbye lies here until it is taken, and the end behind it is not seen before that. */
    @Override
    boolean hasFailed() {
        return ended();
    }

    @Override
    boolean ended() {
        return connectionEnded() && !in.hasRemaining();
    }
}
