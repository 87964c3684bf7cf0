package org.flashring.cli.support;

import java.io.PrintWriter;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.IntStream;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.comm.nccl.NcclOptions;
import org.flashring.comm.peer.PeerGroup;
import org.flashring.device.Device;
import org.flashring.internal.Checks;
import org.flashring.launch.Environment;
import picocli.CommandLine.Option;

/** The option {@code --transport}: how ranks on GPUs reach each other. */
public final class TransportOption {
    enum Kind {
        NCCL,
        LEAN,
        PEER
    }

    @Option(
            names = "--transport",
            description = {
                "How ranks on GPUs exchange: nccl; lean, NCCL with registered memory and few channels; or peer, copies"
                        + " between the GPUs of one host, which several ranks may share (default: nccl; verify and"
                        + " train by threads: peer).",
                "Processes that cannot copy, as on two hosts, take NCCL in place of peer, and say so."
            })
    private Kind kind;

    private String effective; // what processes have come to use

    /**
     * Returns this process's communicator in the group of all that were started together, and says on {@code out} if it
     * is not over what was asked for.
     */
    public Communicator join(Environment environment, Map<String, String> terms, Duration deadline, PrintWriter out) {
        effective = name();
        if (kind != Kind.PEER) {
            return NcclGroup.join(environment, terms, deadline, nccl());
        }
        return PeerGroup.join(environment, terms, deadline, cause -> {
            effective = "nccl in place of peer: " + cause;
            if (environment.rank() == 0) {
                out.println("NCCL in place of peer copies: " + cause);
            }
        });
    }

    /**
     * Returns the communicators of {@code ranks} threads.
     *
     * @param devices the CUDA devices that there are
     * @throws IllegalArgumentException if there are more ranks than devices and NCCL carries them
     */
    public List<Communicator> create(int ranks, List<Device> devices, Duration deadline) {
        effective = name();
        if (kind == Kind.PEER) {
            return LocalGroup.create(
                    IntStream.range(0, ranks)
                            .mapToObj(rank -> devices.get(rank % devices.size()))
                            .toList(),
                    deadline);
        }
        if (ranks > devices.size()) {
            throw Checks.broken(
                    "--ranks",
                    ranks,
                    "be at most the " + devices.size() + " CUDA devices that there are, or --transport be peer");
        }
        return NcclGroup.create(devices.subList(0, ranks), deadline, nccl());
    }

    private NcclOptions nccl() {
        return kind == Kind.LEAN ? NcclOptions.lean() : NcclOptions.defaults();
    }

    /** Returns what ranks on {@code device} exchange by, for results; null on the host, where there is no choice. */
    public String name(Device device) {
        return device.isCuda() ? effective == null ? name() : effective : null;
    }

    private String name() {
        return kind == null ? "nccl" : kind.name().toLowerCase(Locale.ROOT);
    }

    /**
     * Checks that ranks which share GPUs as they come do not go over NCCL.
     *
     * @throws IllegalArgumentException if they would
     */
    public void requirePeer(String rule) {
        if (kind == Kind.NCCL || kind == Kind.LEAN) {
            throw Checks.broken("--transport", name(), rule);
        }
    }

    /**
     * Checks that nobody chooses where there is no choice.
     *
     * @throws IllegalArgumentException if {@code device} is the host and the option is given
     */
    public void requireFitting(Device device) {
        if (kind != null && !device.isCuda()) {
            throw Checks.broken("--transport", name(), "be left out where --device is host");
        }
    }

    /** Returns the option that gives this again, with a space before it; empty if none was given. */
    public String replay() {
        return kind == null ? "" : " --transport " + name();
    }
}
