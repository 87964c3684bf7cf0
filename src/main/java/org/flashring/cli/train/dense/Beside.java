package org.flashring.cli.train.dense;

import org.flashring.device.Device;
import org.flashring.device.Event;
import org.flashring.device.Stream;

/**
 * A stream beside a rank's own, for exchange that its work need not wait for. On the host all is done in one order. Of
 * one thread.
 */
final class Beside implements AutoCloseable {
    private final Owners owned;
    private final Stream own; // null on the host, as all that follow
    private final Stream stream;
    private final Event forked;
    private final Event[] marks;

    /** Makes a stream beside {@code own} on {@code device}, with {@code marks} points that can be waited for. */
    Beside(Device device, long own, int marks) {
        this.marks = new Event[marks];
        try (Owners made = new Owners()) {
            boolean cuda = device.isCuda();
            this.own = cuda ? made.add(Stream.wrap(device, own)) : null;
            this.stream = cuda ? made.add(Stream.createUrgent(device)) : null;
            this.forked = cuda ? made.add(Event.create(device)) : null;
            for (int i = 0; cuda && i < marks; i++) {
                this.marks[i] = made.add(Event.create(device));
            }
            this.owned = made.keep();
        }
    }

    /** Returns the {@code cudaStream_t}; 0 on the host. */
    long stream() {
        return stream == null ? 0 : stream.handle();
    }

    /** Returns the number of marks. */
    int marks() {
        return marks.length;
    }

    /** Lets what is queued beside from now on come after all that the own stream has got. */
    void fork() {
        if (stream != null) {
            forked.record(own.handle());
            stream.await(forked);
        }
    }

    /** Sets a mark behind what has been queued beside. */
    void mark(int number) {
        if (stream != null) {
            marks[number].record(stream.handle());
        }
    }

    /** Lets what the own stream gets from now on come after a mark; at once if that was never set. */
    void join(int number) {
        if (stream != null) {
            own.await(marks[number]);
        }
    }

    @Override
    public void close() {
        owned.close();
    }
}
