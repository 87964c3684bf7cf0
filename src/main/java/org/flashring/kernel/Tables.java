package org.flashring.kernel;

import java.util.Arrays;
import org.bytedeco.javacpp.LongPointer;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.HostBuffer;
import org.flashring.device.OwnedMemory;
import org.flashring.internal.Made;
import org.flashring.internal.RawPointer;

/** Small tables of 64-bit numbers, gathered into one piece of memory on a device. */
final class Tables {
    private long[] values = new long[64];
    private int count;

    /** Appends a table, and returns where it will lie, in bytes from the start; null appends nothing. */
    long add(long[] table) {
        long offset = (long) count * Long.BYTES;
        if (table != null) {
            if (count + table.length > values.length) {
                values = Arrays.copyOf(values, Math.max(2 * values.length, count + table.length));
            }
            System.arraycopy(table, 0, values, count, table.length);
            count += table.length;
        }
        return offset;
    }

    /** Returns new memory on {@code device} that holds all tables. */
    OwnedMemory on(Device device) {
        long bytes = (long) count * Long.BYTES;
        try (Made made = new Made()) {
            HostBuffer host = made.add(HostBuffer.allocate(bytes));
            LongPointer source = new LongPointer(new RawPointer().at(host.address())).capacity(count);
            source.put(values, 0, count);
            if (!device.isCuda()) {
                made.keep();
                return host;
            }
            DeviceBuffer memory = made.add(DeviceBuffer.allocate(device, bytes));
            memory.upload(source);
            made.keep();
            host.close();
            return memory;
        }
    }
}
