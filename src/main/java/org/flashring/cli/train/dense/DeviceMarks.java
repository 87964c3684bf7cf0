package org.flashring.cli.train.dense;

import java.util.ArrayList;
import java.util.List;
import org.flashring.device.Device;
import org.flashring.device.Event;

/** Marks in a stream of a CUDA device: events, which are made by the first step and kept. Of one thread. */
final class DeviceMarks implements PhaseClock.Marks, AutoCloseable {
    private static final double MILLIS = 1e3; // a second

    private final Device device;
    private final long stream;
    private final Owners owned = new Owners();
    private final List<Event> events = new ArrayList<>();

    DeviceMarks(Device device, long stream) {
        this.device = device;
        this.stream = stream;
    }

    @Override
    public void set(int number) {
        if (number == events.size()) {
            events.add(owned.add(Event.createTimed(device)));
        }
        events.get(number).record(stream);
    }

    /** Waits for the later mark, should the device not have passed it. */
    @Override
    public double seconds(int from, int to) {
        Event later = events.get(to);
        if (!later.isDone()) {
            later.synchronize();
        }
        return later.millisSince(events.get(from)) / MILLIS;
    }

    @Override
    public void close() {
        owned.close();
    }
}
