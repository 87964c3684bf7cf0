package org.flashring.cli.train.dense;

import java.util.ArrayList;
import java.util.List;
import org.flashring.device.Device;
import org.flashring.device.Event;

/** Marks on a CUDA stream, which does not wait for them: events, as many as the longest step so far has set. */
final class EventMarks implements PhaseClock.Marks, AutoCloseable {
    private final Device device;
    private final long stream;
    private final List<Event> events = new ArrayList<>();

    EventMarks(Device device, long stream) {
        this.device = device;
        this.stream = stream;
    }

    @Override
    public void set(int number) {
        if (number == events.size()) {
            events.add(Event.createTimed(device));
        }
        events.get(number).record(stream);
    }

    @Override
    public double seconds(int from, int to) {
        events.get(to).synchronize();
        return events.get(to).millisSince(events.get(from)) / 1e3;
    }

    @Override
    public void close() {
        events.forEach(Event::close);
    }
}
