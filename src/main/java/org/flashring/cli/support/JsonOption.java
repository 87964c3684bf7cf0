package org.flashring.cli.support;

import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonNull;
import com.google.gson.JsonPrimitive;
import com.google.gson.JsonSerializer;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Locale;
import org.flashring.comm.Mesh;
import org.flashring.plan.Strategy;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** The option {@code --json FILE} of every command. FILE is checked as the option is read. */
public final class JsonOption {
    private static final Gson GSON = new GsonBuilder()
            .setPrettyPrinting()
            .disableHtmlEscaping()
            .serializeNulls()
            .setFieldNamingPolicy(FieldNamingPolicy.IDENTITY)
            .registerTypeAdapter(Double.class, finiteOrNull())
            .registerTypeAdapter(double.class, finiteOrNull())
            .registerTypeHierarchyAdapter(Enum.class, (JsonSerializer<Enum<?>>)
                    (value, type, context) -> new JsonPrimitive(value.name().toLowerCase(Locale.ROOT)))
            .registerTypeHierarchyAdapter(Strategy.class, (JsonSerializer<Strategy>)
                    (value, type, context) -> new JsonPrimitive(value.toString()))
            .registerTypeAdapter(
                    Mesh.class, (JsonSerializer<Mesh>) (value, type, context) -> new JsonPrimitive(value.toString()))
            .create();

    @Spec(Spec.Target.MIXEE)
    private CommandSpec command;

    private Path file;

    /** JSON knows no infinity and no NaN. */
    private static JsonSerializer<Double> finiteOrNull() {
        return (value, type, context) -> Double.isFinite(value) ? new JsonPrimitive(value) : JsonNull.INSTANCE;
    }

    @Option(names = "--json", paramLabel = "FILE", description = "Also write the results to FILE, as JSON.")
    void file(Path path) {
        ResultFile.require(command.commandLine(), "--json", path);
        this.file = path;
    }

    /**
     * Writes {@code results} (a record, map or list; enums in lower case, numbers that are not finite as null) if FILE
     * was given.
     */
    public void write(Object results) throws IOException {
        if (file != null) {
            write(file, results);
        }
    }

    /** Writes {@code results} to {@code file} in the same form. */
    public static void write(Path file, Object results) throws IOException {
        byte[] json = (GSON.toJson(results) + "\n").getBytes(StandardCharsets.UTF_8);
        ResultFile.write(file, out -> out.write(json));
    }
}
