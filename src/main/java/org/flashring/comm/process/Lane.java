package org.flashring.comm.process;

import java.io.IOException;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.util.function.Consumer;
import org.flashring.device.Device;
import org.flashring.kernel.TensorMath;

/**
 * Bytes in order from one rank to another and back. Whatever is put or taken goes at once or not at all; who cannot go
 * on asks to be woken, and sleeps in the selector. Every lane has a connection, which ends when the peer's process
 * does. For one thread at a time, but for {@link #woken}, which the thread calls that sleeps.
 */
abstract class Lane implements AutoCloseable {
    /** What a selector does with who is woken. */
    static final Consumer<SelectionKey> WAKE = key -> ((Lane) key.attachment()).woken();

    private final SocketChannel channel;
    private final TensorMath copier = new TensorMath(Device.HOST);
    private SelectionKey key;
    private volatile boolean connectionEnded;

    Lane(SocketChannel channel) {
        this.channel = channel;
    }

    final SocketChannel channel() {
        return channel;
    }

    final void copy(long to, long from, long bytes) {
        copier.copyBytes(to, from, bytes);
    }

    /** Makes the connection wake who sleeps in {@code selector}. */
    void register(Selector selector) throws IOException {
        channel.configureBlocking(false);
        key = channel.register(selector, SelectionKey.OP_READ, this);
    }

    /** Moves {@code bytes} bytes at {@code from}, or those that there is room for, out. Returns how many. */
    abstract long put(long from, long bytes);

    /** Moves {@code bytes} bytes, or those that are here, to {@code to}. Returns how many. */
    abstract long take(long to, long bytes);

    /** Moves what has been put on its way, and what is on its way here. Returns whether anything moved. */
    abstract boolean pump();

    /** Returns whether all that has been put is on its way. */
    abstract boolean isFlushed();

    /** Asks to be woken when more is here, or, if {@code roomWanted}, when there is room again. Look once more then. */
    abstract void arm(boolean roomWanted);

    /** Takes note of being woken. */
    abstract void woken();

    /** Returns whether the peer is gone and all that it sent has been taken. */
    abstract boolean ended();

    /** Tells the peer that the group has failed. */
    abstract void fail();

    /** Returns whether the peer has told so, or has gone without a goodbye; why is heard elsewhere. */
    abstract boolean hasFailed();

    final boolean connectionEnded() {
        return connectionEnded;
    }

    /** Notes that nothing will come from the connection any more. */
    final void endConnection() {
        connectionEnded = true;
        interest(0);
    }

    /** Sets what the connection wakes for. */
    final void interest(int operations) {
        if (key != null && key.isValid() && key.interestOps() != operations) {
            key.interestOps(operations);
            key.selector().wakeup(); // it may be asleep with the old ones
        }
    }

    @Override
    public void close() {
        copier.close();
        try {
            channel.close();
        } catch (IOException e) {
            // nothing is left to be lost
        }
    }
}
