package org.flashring.kernel;

import org.bytedeco.javacpp.DoublePointer;
import org.flashring.device.HostBuffer;
import org.flashring.internal.RawPointer;

/** A number in native memory of our own. Closing twice is harmless; use after close throws. */
public final class HostDouble implements AutoCloseable {
    private final HostBuffer memory = HostBuffer.allocate(Double.BYTES);
    private final DoublePointer view = new DoublePointer(new RawPointer().at(memory.address())).capacity(1);

    /** Returns where the number lies. */
    public long address() {
        return memory.address();
    }

    /** Returns where the number lies, as JavaCPP has it. */
    public DoublePointer pointer() {
        return view;
    }

    /** Returns the number. */
    public double get() {
        memory.address(); // throws after close
        return view.get(0);
    }

    public void set(double value) {
        memory.address();
        view.put(0, value);
    }

    /** Returns whether it has been closed. */
    public boolean isClosed() {
        return memory.isClosed();
    }

    @Override
    public void close() {
        memory.close();
    }
}
