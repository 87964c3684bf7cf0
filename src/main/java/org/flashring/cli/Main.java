package org.flashring.cli;

import java.io.IOException;
import java.nio.file.Path;
import org.flashring.cli.bench.BenchCommand;
import org.flashring.cli.generate.GenerateCommand;
import org.flashring.cli.info.InfoCommand;
import org.flashring.cli.launch.LaunchCommand;
import org.flashring.cli.plan.PlanCommand;
import org.flashring.cli.support.Output;
import org.flashring.cli.support.PathArgument;
import org.flashring.cli.support.Quantity;
import org.flashring.cli.train.TrainCommand;
import org.flashring.cli.verify.VerifyCommand;
import org.flashring.internal.Native;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.Spec;

/**
 * The command line. Exit codes: 0 done, 1 a check or the run failed, 2 bad usage. Failures are one sentence on stderr.
 */
@Command(
        name = "flashring",
        description = "Flash attention and context-parallel (ring) attention for the JVM.",
        subcommands = {
            InfoCommand.class,
            TrainCommand.class,
            GenerateCommand.class,
            VerifyCommand.class,
            BenchCommand.class,
            PlanCommand.class,
            LaunchCommand.class
        },
        mixinStandardHelpOptions = true,
        versionProvider = Main.Version.class,
        synopsisSubcommandLabel = "COMMAND",
        footer = {"", "Example:", "  flashring info"})
public final class Main implements Runnable {
    @Spec
    private CommandSpec spec;

    @Option(names = "--verbose", scope = ScopeType.INHERIT, description = "Show the stack trace of a failure.")
    private boolean verbose;

    private Main() {}

    public static void main(String[] args) {
        System.exit(commandLine().setOut(Output.standard()).execute(args));
    }

    /** Returns the command line, ready to execute; tests may give it streams of their own. */
    public static CommandLine commandLine() {
        Main main = new Main();
        CommandLine commandLine = new CommandLine(main)
                .setCaseInsensitiveEnumValuesAllowed(true)
                .setUsageHelpAutoWidth(true)
                .registerConverter(Path.class, new PathArgument())
                .setExecutionStrategy(Main::run)
                .setParameterExceptionHandler((e, args) -> main.report(e.getCommandLine(), e))
                .setExecutionExceptionHandler((e, command, parsed) -> main.report(command, e));
        commandLine.getSubcommands().values().forEach(command -> command.getCommandSpec()
                .versionProvider(new Version())
                .usageMessage()
                .sortSynopsis(false)); // it would sort by the letters of the locale
        return commandLine;
    }

    /** Runs the command, and returns its exit code once what it printed has arrived. */
    private static int run(CommandLine.ParseResult parsed) {
        CommandLine command = (parsed.hasSubcommand() ? parsed.subcommand() : parsed)
                .commandSpec()
                .commandLine();
        try {
            int exitCode = new CommandLine.RunLast().execute(parsed);
            Output.requireArrived(command.getOut());
            return exitCode;
        } catch (IOException | LinkageError | OutOfMemoryError e) {
            throw new CommandLine.ExecutionException(command, e.getMessage(), e);
        }
    }

    /** Says what went wrong, and returns the exit code. */
    private int report(CommandLine command, Exception exception) {
        Throwable cause = exception;
        while (cause.getCause() != null
                && (cause instanceof CommandLine.ExecutionException || cause instanceof ExceptionInInitializerError)) {
            cause = cause.getCause();
        }
        boolean badUsage = cause instanceof CommandLine.ParameterException
                || cause instanceof IllegalArgumentException
                || cause instanceof UnsupportedOperationException;
        command.getErr().println(command.getCommandSpec().qualifiedName() + ": " + sentence(cause));
        if (verbose) {
            cause.printStackTrace(command.getErr());
        }
        return badUsage ? CommandLine.ExitCode.USAGE : CommandLine.ExitCode.SOFTWARE;
    }

    private static String sentence(Throwable cause) {
        String message = cause.getMessage() == null
                ? cause.getClass().getSimpleName()
                : cause.getMessage().lines().findFirst().orElse("");
        if (cause instanceof OutOfMemoryError && !message.contains("heap") && !message.startsWith("GC overhead")) {
            return "out of memory: " + message; // of the host's or a device's own
        }
        if (cause instanceof OutOfMemoryError) {
            return "out of memory: " + message + "; the Java heap has "
                    + Quantity.bytes(Runtime.getRuntime().maxMemory()) + ", FLASHRING_JAVA_OPTS=-Xmx4g makes it 4 GiB.";
        }
        if (cause instanceof CommandLine.UnmatchedArgumentException unmatched
                && !unmatched.getSuggestions().isEmpty()) {
            return message + "; did you mean " + String.join(" or ", unmatched.getSuggestions()) + "?";
        }
        return message;
    }

    /** Without a command there is nothing to do: shows what there is. */
    @Override
    public void run() {
        throw new CommandLine.ParameterException(
                spec.commandLine(),
                "No command given; it must be one of "
                        + String.join(", ", spec.subcommands().keySet()) + ".");
    }

    /** The version of the native library, which is that of the whole. */
    static final class Version implements IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {"flashring " + Native.version()};
        }
    }
}
