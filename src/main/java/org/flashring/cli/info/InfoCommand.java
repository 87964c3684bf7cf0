package org.flashring.cli.info;

import java.io.IOException;
import java.io.PrintWriter;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.bytedeco.javacpp.Loader;
import org.flashring.cli.support.JsonOption;
import org.flashring.cli.support.Machine;
import org.flashring.cli.support.Table;
import org.flashring.comm.nccl.NcclGroup;
import org.flashring.comm.process.Medium;
import org.flashring.comm.process.ProcessGroup;
import org.flashring.device.Cuda;
import org.flashring.device.Device;
import org.flashring.internal.Native;
import org.flashring.kernel.Capability;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code flashring info}: what is available on this machine, and why the rest is not. */
@Command(
        name = "info",
        description = "Show what is available on this machine, and why the rest is not.",
        mixinStandardHelpOptions = true,
        footer = {"", "Example:", "  flashring info --json info.json"})
public final class InfoCommand implements Callable<Integer> {
    @Spec
    private CommandSpec spec;

    @Mixin
    private JsonOption json;

    @Option(names = "--markdown", description = "Print the capability table alone, in Markdown.")
    private boolean markdown;

    /** What {@code --json} writes. */
    record Info(
            String version,
            String platform,
            String java,
            String nativeLibrary,
            Machine machine,
            String maxKernel,
            int cudaDevices,
            String cudaCause,
            List<Integer> cudaTileBytes,
            String nccl,
            String peerCopies,
            String processes,
            Map<String, String> optional,
            List<Capability> capabilities) {}

    @Override
    public Integer call() throws IOException {
        PrintWriter out = spec.commandLine().getOut();
        List<Capability> capabilities = Capability.all();
        Info info = new Info(
                Native.version(),
                Loader.getPlatform(),
                System.getProperty("java.vm.name") + " " + Runtime.version(),
                nativeLibrary(),
                Machine.current(),
                Native.maxKernel(),
                Cuda.deviceCount(),
                Cuda.unavailabilityCause(),
                tileBytes(),
                nccl(),
                peerCopies(),
                processes(),
                optional(),
                capabilities);
        if (markdown) {
            markdown(capabilities).printMarkdown(out);
        } else {
            print(out, info);
        }
        json.write(info);
        return 0;
    }

    /** Returns the table that the README shows: what each kernel serves, whatever this machine can run. */
    static Table markdown(List<Capability> capabilities) {
        Table table = new Table(
                "Kernel",
                "Element type",
                " Head dim",
                "Value dim ≠ head dim",
                "Forward",
                "Backward",
                "Scores",
                "Needs");
        for (Capability row : capabilities) {
            table.row(
                    name(row),
                    type(row),
                    headDim(row),
                    yes(row.unequalDims()),
                    yes(row.forward()),
                    yes(row.backward()),
                    scores(row),
                    row.requirement());
        }
        return table;
    }

    /** Returns the largest head dim, and what forward alone takes beyond it. */
    private static String headDim(Capability row) {
        String forward = row.forwardDim() > row.maxHeadDim() ? ", forward " + row.forwardDim() : "";
        return "≤ " + row.maxHeadDim() + forward + (row.latent() ? ", forward 576 / 512" : "");
    }

    /** Returns what scores may be beyond scaled products. */
    private static String scores(Capability row) {
        String served = Stream.of(
                        row.softcap() ? "softcap" : "", row.sinks() ? "sinks" : "", row.alibi() ? "ALiBi" : "")
                .filter(name -> !name.isEmpty())
                .collect(Collectors.joining(", "));
        return served.isEmpty() ? "plain" : served;
    }

    private static void print(PrintWriter out, Info info) {
        out.println("FlashRing        " + info.version() + " for " + info.platform());
        out.println("Java             " + info.java());
        out.println("Native library   " + info.nativeLibrary());
        out.println("Processor        " + info.machine().processor() + ", "
                + info.machine().threads() + " threads");
        out.println("                 " + String.join(" ", info.machine().features()));
        if (!info.maxKernel().isEmpty()) {
            out.println("Highest kernel   " + info.maxKernel() + ", set by " + Native.maxKernelOrigin());
        }
        out.println("CUDA devices     " + (info.cudaDevices() > 0 ? info.cudaDevices() : "none: " + info.cudaCause()));
        for (int device = 0; device < info.cudaDevices(); device++) {
            String name = Device.cuda(device) + ", " + Cuda.name(Device.cuda(device));
            out.println(
                    "                 " + deviceLine(name, info.cudaTileBytes().get(device)));
        }
        if (info.nccl() != null) {
            out.println("NCCL             " + info.nccl());
        }
        if (info.peerCopies() != null) {
            out.println("Peer copies      " + info.peerCopies());
        }
        out.println("Processes        exchange through " + info.processes());
        info.optional()
                .forEach((name, version) -> out.printf(
                        Locale.ROOT, "%-16s %s%n", name, version == null ? "not on the class path" : version));
        out.println();
        Table table = new Table("Kernel", "Element type", " Head dim", "Forward", "Backward", "Available");
        for (Capability row : info.capabilities()) {
            table.row(
                    name(row),
                    type(row),
                    headDim(row),
                    yes(row.forward()),
                    yes(row.backward()),
                    row.available() ? "yes" : "no: " + row.cause());
        }
        table.print(out);
    }

    /** Returns what is printed of a CUDA device: which tiles the mma kernels take on it. */
    static String deviceLine(String name, int tileBytes) {
        return name + ": "
                + (tileBytes == 0
                        ? "no kernel runs on it"
                        : "tiles for " + tileBytes / 1024 + " KB of shared memory a block");
    }

    /** Returns what NCCL works with, or why there is none; null where there is no GPU. */
    private static String nccl() {
        if (Cuda.deviceCount() == 0) {
            return null;
        }
        String cause = NcclGroup.unavailabilityCause();
        return cause.isEmpty() ? NcclGroup.description() : "none: " + cause;
    }

    /** Returns which GPUs can copy from each other's memory; null where there is no GPU. */
    private static String peerCopies() {
        for (int device = 0; device < Cuda.deviceCount(); device++) {
            Device beyond = Cuda.beyondReach(Device.cuda(device));
            if (beyond != null) {
                return "not by all GPUs: " + Device.cuda(device) + " does not reach the memory of " + beyond;
            }
        }
        return Cuda.deviceCount() == 0 ? null : "by all GPUs, from each other's memory";
    }

    /** Returns what processes without GPUs exchange through on this host. */
    private static String processes() {
        String cause = ProcessGroup.sharedMemoryUnavailabilityCause();
        if (Medium.of(System.getenv()) == Medium.SOCKETS) {
            cause = "set by " + Medium.VARIABLE;
        }
        return cause.isEmpty() ? "shared memory" : "sockets: " + cause;
    }

    private static List<Integer> tileBytes() {
        return IntStream.range(0, Cuda.deviceCount())
                .mapToObj(device -> Cuda.tileBytes(Device.cuda(device)))
                .toList();
    }

    private static String name(Capability row) {
        return row.cuda() ? "cuda " + row.name() : row.name();
    }

    private static String type(Capability row) {
        return row.dtype().name().toLowerCase(Locale.ROOT);
    }

    private static String yes(boolean served) {
        return served ? "yes" : "no";
    }

    private static String nativeLibrary() {
        return Loader.getLoadedLibraries().entrySet().stream()
                .filter(entry -> entry.getKey().contains("flashring"))
                .map(Map.Entry::getValue)
                .findFirst()
                .orElse("unknown");
    }

    /** Returns the version of each optional part, or null where it is not on the class path. */
    private static Map<String, String> optional() {
        Map<String, String> parts = new java.util.TreeMap<>();
        parts.put("PyTorch", version("org.bytedeco.pytorch.Tensor"));
        return parts;
    }

    private static String version(String className) {
        try {
            Package part = Class.forName(className, false, InfoCommand.class.getClassLoader())
                    .getPackage();
            return part.getImplementationVersion() == null ? "of unknown version" : part.getImplementationVersion();
        } catch (ClassNotFoundException e) {
            return null;
        }
    }
}
