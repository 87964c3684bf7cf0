package org.flashring.cli.support;

import java.util.List;
import java.util.stream.IntStream;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import picocli.CommandLine.Option;

/** The option {@code --device} of commands that run on the host or on CUDA devices. */
public final class DeviceOption {
    enum Kind {
        HOST,
        CUDA
    }

    @Option(
            names = "--device",
            defaultValue = "host",
            description = "Where tensors lie and kernels run: host or cuda (default: ${DEFAULT-VALUE}).")
    private Kind kind;

    /**
     * Returns the host, or every CUDA device of this process.
     *
     * @throws UnsupportedOperationException if CUDA is asked for and there is none; the message says why
     */
    public List<Device> devices() {
        if (kind == Kind.HOST) {
            return List.of(Device.HOST);
        }
        Cuda.require("--device", Device.cuda(0));
        return IntStream.range(0, Cuda.deviceCount()).mapToObj(Device::cuda).toList();
    }

    /** Returns what results call the device, such as host or cuda:0 NVIDIA H200. */
    public static String name(Device device) {
        return device.isCuda() ? device + " " + Cuda.name(device) : device.toString();
    }
}
