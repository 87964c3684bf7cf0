package org.flashring.cli.support;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** Reads the name of a file. */
public final class PathArgument implements ITypeConverter<Path> {
    @Override
    public Path convert(String text) {
        try {
            return Path.of(text);
        } catch (InvalidPathException e) {
            throw new TypeConversionException(
                    "'" + text + "' has characters that are not in " + System.getProperty("sun.jnu.encoding")
                            + ", the character set of this locale; set LC_ALL=C.UTF-8");
        }
    }
}
