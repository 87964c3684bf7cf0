package org.flashring.cli.plan;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.LongStream;
import org.flashring.Layout;
import org.flashring.Mask;
import org.flashring.cli.support.Quantity;
import picocli.CommandLine;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** The options of {@code flashring plan} that describe the sequence: its length, documents, layout and mask. */
final class PlanSequence {
    private static final long MOST_DOCUMENTS = 1 << 20;
    private static final long LONGEST = 1L << 40;

    @Option(
            names = "--length",
            paramLabel = "TOKENS",
            converter = Quantity.class,
            description = "Tokens of a sequence, such as 131072 or 128K (default: the sum of --documents).")
    private Long length;

    @Option(
            names = "--layout",
            defaultValue = "zigzag",
            description = "${COMPLETION-CANDIDATES} (default: ${DEFAULT-VALUE}).")
    private Layout.Policy policy;

    @Option(names = "--causal", description = "Queries see no later key (default).")
    private boolean causal;

    @Option(names = "--full", description = "Queries see later keys too.")
    private boolean full;

    @Option(
            names = "--window",
            paramLabel = "KEYS",
            converter = Quantity.class,
            description = "Queries see the KEYS nearest keys alone, their own counted; with --full on both sides.")
    private Long window;

    @Option(
            names = "--documents",
            paramLabel = "FILE",
            description = "Packed documents: FILE holds their lengths, apart by white space.")
    private Path documents;

    @Option(
            names = "--document-length",
            paramLabel = "TOKENS",
            converter = Quantity.class,
            description = "Packed documents, all of this length.")
    private Long documentLength;

    private long[] cuSeqlens;

    /** Reads the documents, and checks what options say together. */
    void check(CommandLine command) {
        if (causal && full) {
            throw new ParameterException(command, "--causal and --full exclude each other; give one of the two.");
        }
        if (documents != null && documentLength != null) {
            throw new ParameterException(
                    command, "--documents and --document-length exclude each other; give one of the two.");
        }
        if (documents == null && length == null) {
            throw new ParameterException(
                    command, "--length is missing; give the tokens of a sequence, such as --length 128K.");
        }
        if (length != null && (length < 1 || length > LONGEST)) {
            throw new ParameterException(command, "--length is " + length + "; it must lie in [1, " + LONGEST + "].");
        }
        if (window != null && window < 1) {
            throw new ParameterException(
                    command, "--window is " + window + "; it must be at least 1, the query's own key.");
        }
        if (documentLength != null && documentLength < 1) {
            throw new ParameterException(
                    command, "--document-length is " + documentLength + "; it must be at least 1.");
        }
        if (documentLength != null && length / documentLength >= MOST_DOCUMENTS) {
            throw new ParameterException(
                    command,
                    "--document-length is " + documentLength + ", which makes more than "
                            + MOST_DOCUMENTS
                            + " documents of --length " + length + "; it must be longer.");
        }
        if (documents != null) {
            cuSeqlens = read(command);
            long sum = cuSeqlens[cuSeqlens.length - 1];
            if (length != null && length != sum) {
                throw new ParameterException(
                        command,
                        "--length is " + length + "; it must be " + sum
                                + ", the sum of the documents in "
                                + documents + ", or be left out.");
            }
            length = sum;
        }
    }

    private long[] read(CommandLine command) {
        String text;
        try {
            text = Files.readString(documents).strip();
        } catch (IOException e) {
            throw new ParameterException(
                    command, "--documents " + documents + " cannot be read; give a file of document lengths.", e);
        }
        long[] lengths;
        try {
            lengths =
                    Arrays.stream(text.split("\\s+")).mapToLong(Long::parseLong).toArray();
        } catch (NumberFormatException e) {
            throw new ParameterException(
                    command,
                    "--documents " + documents
                            + " does not hold whole numbers alone; give document lengths apart by white space.",
                    e);
        }
        long[] offsets = new long[lengths.length + 1];
        for (int i = 0; i < lengths.length; i++) {
            if (lengths[i] < 0 || lengths[i] > LONGEST - offsets[i]) {
                throw new ParameterException(
                        command,
                        "--documents " + documents + ": length " + lengths[i]
                                + " of document " + (i + 1)
                                + " is out of range; lengths are not negative and sum to at most " + LONGEST + ".");
            }
            offsets[i + 1] = offsets[i] + lengths[i];
        }
        return offsets;
    }

    /** Returns the length asked for. */
    long length() {
        return length;
    }

    /** Returns whether the documents allow one length only. */
    boolean fixed() {
        return documents != null;
    }

    /** Returns a bound on the lengths that a search may try. */
    long longestSearched() {
        return documentLength == null ? LONGEST : Math.min(LONGEST, documentLength * MOST_DOCUMENTS);
    }

    Layout layout(long tokens, int ranks) {
        long[] offsets = offsets(tokens);
        return offsets == null ? Layout.of(policy, tokens, ranks) : Layout.of(policy, offsets, ranks);
    }

    Mask mask(long tokens) {
        long nearest = window == null ? -1 : window - 1;
        Mask mask = Mask.full().window(nearest, full ? nearest : 0);
        long[] offsets = offsets(tokens);
        return offsets == null ? mask : mask.documents(offsets);
    }

    private long[] offsets(long tokens) {
        if (documentLength == null) {
            return cuSeqlens;
        }
        long count = (tokens + documentLength - 1) / documentLength;
        return LongStream.rangeClosed(0, count)
                .map(i -> Math.min(tokens, i * documentLength))
                .toArray();
    }
}
