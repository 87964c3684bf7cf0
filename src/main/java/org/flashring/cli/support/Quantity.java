package org.flashring.cli.support;

import java.util.Locale;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** Reads a number of tokens or bytes, such as 4096, 128K or 80G: suffixes K, M, G and T are powers of 1024. */
public final class Quantity implements ITypeConverter<Long> {
    private static final String SUFFIXES = "KMGT";
    private static final String[] FLOP_UNITS = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"};

    @Override
    public Long convert(String text) {
        int suffix = text.isEmpty() ? -1 : SUFFIXES.indexOf(Character.toUpperCase(text.charAt(text.length() - 1)));
        String digits = suffix < 0 ? text : text.substring(0, text.length() - 1);
        try {
            return Math.multiplyExact(Long.parseLong(digits), 1L << 10 * (suffix + 1));
        } catch (NumberFormatException | ArithmeticException e) {
            throw new TypeConversionException("'" + text + "' is not a number such as 4096, 128K or 80G");
        }
    }

    /** Returns bytes as people read them: "1.50 GiB". */
    public static String bytes(long bytes) {
        int unit = 0;
        double value = bytes;
        while (value >= 1024 && unit < SUFFIXES.length()) {
            value /= 1024;
            unit++;
        }
        return unit == 0 ? bytes + " B" : String.format(Locale.ROOT, "%.2f %ciB", value, SUFFIXES.charAt(unit - 1));
    }

    /** Returns floating-point operations as people read them: "1.13 PFLOP". */
    public static String flops(double flops) {
        int unit = 0;
        double value = flops;
        while (value >= 999.995 && unit < FLOP_UNITS.length - 1) { // what rounds to 1000.00 is one of the next unit
            value /= 1000;
            unit++;
        }
        return String.format(Locale.ROOT, unit == 0 ? "%.0f %s" : "%.2f %s", value, FLOP_UNITS[unit]);
    }
}
