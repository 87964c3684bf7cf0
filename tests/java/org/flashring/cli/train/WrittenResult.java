package org.flashring.cli.train;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.StreamSupport;

/** What a run of {@code train} wrote. */
final class WrittenResult {
    private WrittenResult() {}

    /** Returns the result.json of a directory. */
    static JsonObject result(Path directory) throws IOException {
        return JsonParser.parseString(Files.readString(directory.resolve("result.json")))
                .getAsJsonObject();
    }

    /** Returns the losses of its steps. */
    static List<Double> losses(JsonObject result) {
        return StreamSupport.stream(result.getAsJsonArray("steps").spliterator(), false)
                .map(JsonElement::getAsJsonObject)
                .map(step -> step.get("loss").getAsDouble())
                .toList();
    }
}
