package org.flashring.comm.process;

import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.SocketChannel;

/**
 * A lane through memory that both processes have mapped: a ring of bytes each way, with a count of those written and
 * one of those read. The connection is a bell: whoever is about to sleep raises a flag and looks once more; whoever has
 * written, or made room, looks for the flag and rings. All of it is sequentially consistent, so one of them sees the
 * other.
 */
final class SharedLane extends Lane {
    private static final VarHandle LONG = MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.nativeOrder());
    private static final VarHandle INT = MethodHandles.byteBufferViewVarHandle(int[].class, ByteOrder.nativeOrder());

    private static final int WORDS = 256; // of a direction: two pairs of cache lines
    private static final int WRITER_SLEEPS = 8;
    private static final int FAILED = 16;
    private static final int READ = 128;
    private static final int READER_SLEEPS = READ + 8;
    private static final int DATA = 4096;
    private static final int PIECES = 4; // of a ring, so that both ends are at work

    private final Segment segment;
    private final ByteBuffer words;
    private final int capacity;
    private final int out; // words of the direction from here
    private final int in;
    private final long outData;
    private final long inData;
    private final ByteBuffer ring = ByteBuffer.allocateDirect(1);
    private final ByteBuffer heard = ByteBuffer.allocateDirect(64);

    /** Makes one end; {@code first} is that of the lower rank. */
    SharedLane(Segment segment, int capacity, boolean first, SocketChannel bell) {
        super(bell);
        this.segment = segment;
        this.words = segment.memory();
        this.capacity = capacity;
        out = WORDS * (first ? 1 : 2);
        in = WORDS * (first ? 2 : 1);
        outData = segment.address() + DATA + (first ? 0 : capacity);
        inData = segment.address() + DATA + (first ? capacity : 0);
    }

    /** Returns the bytes of a segment whose rings hold {@code capacity} bytes each. */
    static long segmentBytes(int capacity) {
        return DATA + 2L * capacity;
    }

    @Override
    long put(long from, long bytes) {
        long written = (long) LONG.getVolatile(words, out);
        long room = capacity - (written - (long) LONG.getVolatile(words, out + READ));
        long moved = Math.min(Math.min(bytes, room), capacity / PIECES);
        if (moved > 0) {
            long at = written % capacity;
            long straight = Math.min(moved, capacity - at);
            copy(outData + at, from, straight);
            copy(outData, from + straight, moved - straight);
            LONG.setVolatile(words, out, written + moved);
            wake(out + READER_SLEEPS);
        }
        return moved;
    }

    @Override
    long take(long to, long bytes) {
        long read = (long) LONG.getVolatile(words, in + READ);
        long here = (long) LONG.getVolatile(words, in) - read;
        long moved = Math.min(Math.min(bytes, here), capacity / PIECES);
        if (moved > 0) {
            long at = read % capacity;
            long straight = Math.min(moved, capacity - at);
            copy(to, inData + at, straight);
            copy(to + straight, inData, moved - straight);
            LONG.setVolatile(words, in + READ, read + moved);
            wake(in + WRITER_SLEEPS);
        }
        return moved;
    }

    private void wake(int flag) {
        if ((int) INT.getVolatile(words, flag) != 0 && INT.compareAndSet(words, flag, 1, 0)) {
            ring();
        }
    }

    private void ring() {
        ring.clear();
        try {
            channel().write(ring); // where the bell is full, the peer has not listened yet
        } catch (IOException e) {
            // nobody is there: reading tells
        }
    }

    @Override
    void fail() {
        INT.setVolatile(words, out + FAILED, 1);
        ring();
    }

    @Override
    boolean hasFailed() {
        return (int) INT.getVolatile(words, in + FAILED) != 0;
    }

    @Override
    boolean pump() {
        return false;
    }

    @Override
    boolean isFlushed() {
        return true;
    }

    @Override
    void arm(boolean roomWanted) {
        INT.setVolatile(words, in + READER_SLEEPS, 1);
        if (roomWanted) {
            INT.setVolatile(words, out + WRITER_SLEEPS, 1);
        }
    }

    @Override
    void woken() {
        try {
            int read;
            do {
                heard.clear();
                read = channel().read(heard);
            } while (read == heard.capacity());
            if (read < 0) {
                endConnection();
            }
        } catch (IOException e) {
            endConnection();
        }
    }

    @Override
    boolean ended() {
        return connectionEnded() && (long) LONG.getVolatile(words, in) == (long) LONG.getVolatile(words, in + READ);
    }

    @Override
    public void close() {
        super.close();
        segment.close();
    }
}
