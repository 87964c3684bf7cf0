package org.flashring.cli;

import org.flashring.cli.bench.BenchCommand;
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

/** The command line. Exit codes: 0 done, 1 a check or the run failed, 2 bad usage. Failures are one sentence on stderr. */
@Command(
        name = "flashring",
        description = "Flash attention and context-parallel (ring) attention for the JVM.",
        subcommands = {InfoCommand.class, TrainCommand.class, VerifyCommand.class, BenchCommand.class, PlanCommand.class, LaunchCommand.class},
        mixinStandardHelpOptions = true,
        versionProvider = Main.Version.class,
        synopsisSubcommandLabel = "COMMAND",
        footer = {"", "Example:", "  flashring info"})
public final class Main implements Runnable {
    @Spec private CommandSpec spec;

    @Option(names = "--verbose", scope = ScopeType.INHERIT, description = "Show the stack trace of a failure.")
    private boolean verbose;

    private Main() {}

    public static void main(String[] args) {
        System.exit(commandLine().execute(args));
    }

    /** Returns the command line, ready to execute; tests may give it streams of their own. */
    public static CommandLine commandLine() {
        Main main = new Main();
        CommandLine commandLine = new CommandLine(main)
                .setCaseInsensitiveEnumValuesAllowed(true)
                .setUsageHelpAutoWidth(true)
                .setParameterExceptionHandler((e, args) -> main.report(e.getCommandLine(), e))
                .setExecutionExceptionHandler((e, command, parsed) -> main.report(command, e));
        commandLine.getSubcommands().values().forEach(command -> command.getCommandSpec().versionProvider(new Version()));
        return commandLine;
    }

    /** Says what went wrong, and returns the exit code. */
    private int report(CommandLine command, Exception exception) {
        Throwable cause = exception;
        while (cause.getCause() != null && (cause instanceof CommandLine.ExecutionException || cause instanceof ExceptionInInitializerError)) {
            cause = cause.getCause();
        }
        boolean badUsage = cause instanceof CommandLine.ParameterException || cause instanceof IllegalArgumentException
                || cause instanceof UnsupportedOperationException;
        String sentence = cause.getMessage() == null ? cause.getClass().getSimpleName() : cause.getMessage();
        command.getErr().println(command.getCommandSpec().qualifiedName() + ": " + sentence.lines().findFirst().orElse(""));
        if (verbose) {
            cause.printStackTrace(command.getErr());
        }
        return badUsage ? CommandLine.ExitCode.USAGE : CommandLine.ExitCode.SOFTWARE;
    }

    /** Without a command there is nothing to do: shows what there is. */
    @Override
    public void run() {
        throw new CommandLine.ParameterException(spec.commandLine(),
                "No command given; it must be one of " + String.join(", ", spec.subcommands().keySet()) + ".");
    }

    /** The version of the native library, which is that of the whole. */
    static final class Version implements IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {"flashring " + Native.version()};
        }
    }
}
