package org.flashring.cli.train.dense;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.flashring.DType;
import org.flashring.device.Device;
import org.flashring.device.DeviceBuffer;
import org.flashring.device.HostBuffer;
import org.junit.jupiter.api.AfterEach;

/**
 * Arrays on a GPU and on the host, and operations on both: the host's compute in float64 and round once. Outputs begin
 * as NaN, and what lies behind them has to stay.
 */
abstract class OpsComparison {
    private static final int FENCE = 64; // bytes behind an array
    private static final double NEAR = 2e-6; // of float32, relative to the largest value

    /** The same array on both sides. */
    record Both(DType type, int count, long host, long device) {}

    final Random random = new Random(8);
    private final List<AutoCloseable> owned = new ArrayList<>();
    private final List<Both> arrays = new ArrayList<>();
    DType type;
    double accumulated; // what sums of float32 may come to, beside that of the largest element
    private Ops host;
    Ops device;

    void begin(DType of) {
        type = of;
        host = new HostOps(of, 2);
        device = new CudaOps(of, Device.cuda(0));
        owned.add(device);
    }

    @AfterEach
    void close() throws Exception {
        for (AutoCloseable each : owned) {
            each.close();
        }
    }

    double[] values(int count) {
        return random.doubles(count, -2, 2).toArray();
    }

    /** Returns an array that begins {@code skipped} elements behind an address that is a multiple of 256. */
    Both array(DType of, double[] values, int skipped) {
        long skip = (long) skipped * of.bytes();
        long bytes = (long) values.length * of.bytes() + FENCE;
        HostBuffer here = HostBuffer.allocate(skip + bytes);
        DeviceBuffer there = DeviceBuffer.allocate(Device.cuda(0), skip + bytes);
        owned.add(here);
        owned.add(there);
        Both both = new Both(of, values.length, here.address() + skip, there.address() + skip);
        HostOps.view().store(of, both.host(), values, 0, values.length);
        long end = values.length * (long) of.bytes();
        HostOps.view().bytes(both.host() + end, FENCE).put(fence());
        device.upload(both.device(), both.host(), bytes);
        arrays.add(both);
        return both;
    }

    private static byte[] fence() {
        byte[] fence = new byte[FENCE];
        Arrays.fill(fence, (byte) 0x5A);
        return fence;
    }

    Both array(double[] values) {
        return array(type, values, 0);
    }

    Both wide(double[] values) {
        return array(DType.FLOAT32, values, 0);
    }

    Both doubles(double... values) {
        return array(DType.FLOAT64, values, 0);
    }

    Both longs(long... values) {
        double[] bits =
                Arrays.stream(values).mapToDouble(Double::longBitsToDouble).toArray();
        return array(DType.FLOAT64, bits, 0);
    }

    Both empty(DType of, int count, int skipped) {
        double[] values = new double[count];
        Arrays.fill(values, Double.NaN);
        return array(of, values, skipped);
    }

    interface Call {
        void on(Ops ops, boolean isDevice);
    }

    static long at(Both both, boolean isDevice) {
        return both == null ? 0 : isDevice ? both.device() : both.host();
    }

    /** Calls on both sides, and compares all arrays: those that are only read stay as they are. */
    void check(Call call) {
        call.on(host, false);
        call.on(device, true);
        for (Both both : arrays) {
            compare(both);
        }
    }

    private void compare(Both both) {
        long bytes = (long) both.count() * both.type().bytes() + FENCE;
        try (HostBuffer copy = HostBuffer.allocate(bytes)) {
            device.download(copy.address(), both.device(), bytes);
            double[] expected = new double[both.count()];
            double[] actual = new double[both.count()];
            HostOps.view().load(both.type(), both.host(), expected, 0, expected.length);
            HostOps.view().load(both.type(), copy.address(), actual, 0, actual.length);
            byte[] behind = new byte[FENCE];
            HostOps.view().bytes(copy.address() + bytes - FENCE, FENCE).get(behind);
            assertThat(behind).as("what lies behind").isEqualTo(fence());
            compare(both.type(), actual, expected);
        }
    }

    private void compare(DType of, double[] actual, double[] expected) {
        double most = Arrays.stream(expected)
                .filter(Double::isFinite)
                .map(Math::abs)
                .max()
                .orElse(0);
        double relative = of == DType.BFLOAT16 ? 0x1p-7 : 1e-5; // of 16 bits, one step
        int different = 0;
        for (int i = 0; i < expected.length; i++) {
            if (Double.compare(actual[i], expected[i]) != 0 && actual[i] != expected[i]) {
                different++;
                assertThat(Math.abs(actual[i] - expected[i]))
                        .as("element %d of %d %s: %s, not %s", i, expected.length, of, actual[i], expected[i])
                        .isLessThanOrEqualTo(relative * Math.abs(expected[i]) + Math.max(NEAR * most, accumulated));
            }
        }
        if (of == DType.BFLOAT16) {
            assertThat(different).as("elements that round otherwise").isLessThanOrEqualTo(2 + expected.length / 50);
        }
    }
}
