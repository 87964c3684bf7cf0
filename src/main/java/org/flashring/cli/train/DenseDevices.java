package org.flashring.cli.train;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.flashring.DType;
import org.flashring.cli.support.DeviceOption;
import org.flashring.cli.support.Launched;
import org.flashring.cli.support.TransportOption;
import org.flashring.cli.train.dense.DenseSettings;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Device;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/**
 * Where the dense engine's ranks are and what their numbers are: {@code --device}, {@code --transport},
 * {@code --dtype}.
 */
final class DenseDevices {
    /** What weights and activations are of. */
    private enum Type {
        FLOAT32,
        BF16
    }

    @Spec(Spec.Target.MIXEE)
    private CommandSpec command;

    @Mixin
    private DeviceOption device;

    @Mixin
    private TransportOption transport;

    @Option(
            names = "--dtype",
            description =
                    "Of weights and activations: float32 or bf16, with a float32 optimizer. --engine dense alone, as"
                            + " --device cuda (default: float32, on GPUs bf16).")
    private Type type;

    /** Returns whether ranks are GPUs. */
    boolean cuda() {
        return device.devices().get(0).isCuda();
    }

    /** Throws if one of them is given that only the dense engine knows. */
    void requireNone() {
        if (type != null) {
            throw new ParameterException(command.commandLine(), "--dtype is for --engine dense alone.");
        }
        if (cuda()) {
            throw new ParameterException(command.commandLine(), "--device cuda is for --engine dense alone.");
        }
        transport.requireFitting(Device.HOST);
    }

    /** Returns the usual number of ranks that are threads: one for each GPU, or {@code onHost}. */
    int ranks(int onHost) {
        return cuda() ? device.devices().size() : onHost;
    }

    /** Returns how many of {@code ranks} are on this host: all that are threads. */
    static int ranksHere(int ranks, Launched launched) {
        return launched == null ? ranks : launched.ranksHere();
    }

    /** Returns how many of so many ranks that are threads share each of the devices, at most. */
    int ranksEach(int ranks) {
        int devices = device.devices().size();
        return (ranks + devices - 1) / devices;
    }

    /**
     * Returns the settings for these devices.
     *
     * @param launched the processes that are the ranks; null if threads are
     */
    DenseSettings settings(DenseSettings settings, Launched launched) {
        transport.requireFitting(device.devices().get(0));
        if (launched == null) {
            transport.requirePeer("be peer where ranks are threads, which share GPUs");
        }
        boolean narrow = type == null ? cuda() : type == Type.BF16;
        DenseSettings typed = settings.with(narrow ? DType.BFLOAT16 : DType.FLOAT32);
        return cuda() ? typed.onCuda() : typed;
    }

    /** Runs ranks that are threads: on the host, or on GPUs in turn. */
    void run(int ranks, Duration deadline, Consumer<Communicator> body) {
        List<Device> devices = device.devices();
        LocalGroup.run(
                IntStream.range(0, ranks)
                        .mapToObj(rank -> devices.get(rank % devices.size()))
                        .toList(),
                deadline,
                communicator -> {
                    body.accept(communicator);
                    return null;
                });
    }

    /** Runs the rank that is this process. */
    void run(Launched launched, Map<String, String> terms, Duration deadline, Consumer<Communicator> body) {
        if (cuda()) {
            launched.run(transport, command.commandLine().getOut(), terms, deadline, body);
        } else {
            launched.run(terms, deadline, body);
        }
    }
}
