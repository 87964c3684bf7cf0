package org.flashring.cli.train.dense;

import java.util.Arrays;
import java.util.EnumMap;
import java.util.Locale;
import java.util.Map;

/**
 * How long a rank's steps spend in each of their parts. It sets marks in the order of a device's work, and reads them
 * once the step is over, so that a device need not stop for it. One thread uses it.
 */
final class PhaseClock {
    /** What a step does, in the order in which it begins to. */
    enum Part {
        /** The batch is cut and brought to the device, targets are counted. */
        BATCH,
        DENSE_FORWARD,
        /** With the exchange of keys, and the wait for ranks that come later. */
        ATTENTION_FORWARD,
        HEAD,
        DENSE_BACKWARD,
        /** Forward once more, where backward does not find its results. */
        ATTENTION_AGAIN,
        ATTENTION_BACKWARD,
        /** What is left to wait for of copies to the host's memory and back. */
        OFFLOAD,
        /** Gradients, weights and figures go over ranks. */
        SYNC,
        OPTIMIZER;

        @Override
        public String toString() {
            return name().toLowerCase(Locale.ROOT).replace('_', ' ');
        }
    }

    /** Points in the order of a device's work. */
    interface Marks {
        /** Sets mark {@code number}, counted from 0, here; a step sets them in order, each step anew. */
        void set(int number);

        /** Returns the seconds from one mark to a later one, both of which have been passed. */
        double seconds(int from, int to);
    }

    private static final PhaseClock OFF = new PhaseClock(null);

    private final Marks marks; // null: nothing is timed
    private Part[] parts = new Part[64]; // that begin at each mark
    private int count;
    private boolean running;

    /** Makes a clock of some marks. */
    PhaseClock(Marks marks) {
        this.marks = marks;
    }

    /** Returns a clock that times nothing, and costs nothing. */
    static PhaseClock off() {
        return OFF;
    }

    /** Returns a clock of a device whose work is done when its call returns. */
    static PhaseClock ofHost() {
        return new PhaseClock(new HostMarks());
    }

    /** Begins a step. */
    void start() {
        if (marks != null) {
            running = true;
            count = 0;
            enter(Part.BATCH);
        }
    }

    /** Begins a part, and ends the one before; nothing outside a step. */
    void enter(Part part) {
        if (running) {
            if (count == parts.length) {
                parts = Arrays.copyOf(parts, 2 * count);
            }
            parts[count] = part;
            marks.set(count++);
        }
    }

    /** Ends the step. */
    void stop() {
        enter(null);
        running = false;
    }

    /** Returns the seconds of the parts of the last step that ended, by name in order; empty if nothing is timed. */
    Map<Part, Double> seconds() {
        Map<Part, Double> seconds = new EnumMap<>(Part.class);
        for (int mark = 0; mark < count - 1; mark++) {
            seconds.merge(parts[mark], marks.seconds(mark, mark + 1), Double::sum);
        }
        return seconds;
    }

    private static final class HostMarks implements Marks {
        private long[] nanos = new long[64];

        @Override
        public void set(int number) {
            if (number == nanos.length) {
                nanos = Arrays.copyOf(nanos, 2 * number);
            }
            nanos[number] = System.nanoTime();
        }

        @Override
        public double seconds(int from, int to) {
            return (nanos[to] - nanos[from]) / 1e9;
        }
    }
}
