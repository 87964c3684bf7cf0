package org.flashring.cli.train.dense;

import com.google.gson.Gson;
import com.google.gson.JsonParseException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Locale;
import org.flashring.DType;
import org.flashring.cli.train.dense.Parameters.Parameter;
import org.flashring.device.HostBuffer;

/**
 * A model that has been trained: {@code config.json} and {@code model.safetensors} of a checkpoint, its weights widened
 * to float64, so that what it says does not depend on the order of sums. Threads may share it.
 */
public final class TrainedModel implements AutoCloseable {
    private static final String CONFIG = "config.json";
    private static final String WEIGHTS = "model.safetensors";
    private static final int ONCE = 1 << 17; // values that are read at a time

    private final Path folder;
    private final DenseModel model;
    private final long positions;
    private final Parameters parameters;
    private final HostBuffer weights;

    private TrainedModel(Path folder, DenseModel model, long positions, Parameters parameters, HostBuffer weights) {
        this.folder = folder;
        this.model = model;
        this.positions = positions;
        this.parameters = parameters;
        this.weights = weights;
    }

    /**
     * Returns the model of the checkpoint that {@code path} is, or of the latest one in it.
     *
     * @param option that named it, for messages
     * @throws IllegalArgumentException if there is none, or its files are not of one model
     * @throws UncheckedIOException if it cannot be read
     * @throws OutOfMemoryError if there is no memory for its weights
     */
    public static TrainedModel read(String option, Path path) {
        Path folder = folder(option, path);
        HostBuffer memory = null;
        try {
            LlamaConfig config = config(folder.resolve(CONFIG));
            DType type = type(folder.resolve(CONFIG), config.dtype());
            DenseModel model = model(folder.resolve(CONFIG), config);
            Parameters parameters = new Parameters(model);
            Path file = folder.resolve(WEIGHTS);
            try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
                Safetensors tensors = Safetensors.read(file, channel);
                for (Parameter parameter : parameters.all()) { // all of them, before memory is taken
                    tensors.position(file, parameter.name(), type, parameter.shape());
                }
                memory = HostBuffer.allocate(Math.multiplyExact(parameters.elements(), (long) Double.BYTES));
                for (Parameter parameter : parameters.all()) {
                    long from = tensors.position(file, parameter.name(), type, parameter.shape());
                    read(file, channel, from, type, parameter, memory.address());
                }
            }
            TrainedModel read = new TrainedModel(folder, model, config.length(), parameters, memory);
            memory = null;
            return read;
        } catch (IOException e) {
            throw Checkpoint.unreadable(e);
        } finally {
            if (memory != null) {
                memory.close();
            }
        }
    }

    private static Path folder(String option, Path path) {
        if (Files.isRegularFile(path.resolve(CONFIG))) {
            return path;
        }
        return Checkpoint.in(path, CONFIG)
                .orElseThrow(() -> new IllegalArgumentException(option + " is " + path
                        + "; it must be a checkpoint, a folder with " + CONFIG + " and " + WEIGHTS + ", or hold one, "
                        + Checkpoint.ORIGIN));
    }

    private static LlamaConfig config(Path file) throws IOException {
        try {
            LlamaConfig config = new Gson().fromJson(Files.readString(file), LlamaConfig.class);
            if (config == null || !"llama".equals(config.modelType()) || config.tied()) {
                throw new IOException(file + " is not of a model that was trained here");
            }
            return config;
        } catch (JsonParseException e) {
            throw new IOException(file + " is not of the form that it was written in", e);
        }
    }

    private static DType type(Path file, String name) {
        for (DType type : new DType[] {DType.FLOAT32, DType.FLOAT64, DType.BFLOAT16}) {
            if (type.toString().toLowerCase(Locale.ROOT).equals(name)) {
                return type;
            }
        }
        throw new IllegalArgumentException(file + " is of " + name + "; it must be of float32, float64 or bfloat16");
    }

    private static DenseModel model(Path file, LlamaConfig config) {
        try {
            DenseModel model = new DenseModel(
                    config.layers(),
                    config.heads(),
                    config.kvHeads(),
                    config.headDim(),
                    config.dim(),
                    config.hidden(),
                    config.vocabulary(),
                    config.epsilon(),
                    config.ropeBase());
            Math.multiplyExact(new Parameters(model).elements(), (long) Double.BYTES);
            return model;
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException(file + ": " + e.getMessage(), e);
        } catch (ArithmeticException e) {
            throw new IllegalArgumentException(file + " is of a model larger than any memory", e);
        }
    }

    private static void read(Path file, FileChannel channel, long from, DType type, Parameter parameter, long to)
            throws IOException {
        double[] values = new double[ONCE];
        try (HostBuffer some = HostBuffer.allocate((long) ONCE * type.bytes())) {
            for (long done = 0; done < parameter.elements(); done += ONCE) {
                int now = (int) Math.min(ONCE, parameter.elements() - done);
                Safetensors.readFully(
                        file,
                        channel,
                        HostOps.view().bytes(some.address(), now * type.bytes()),
                        from + done * type.bytes());
                HostOps.view().load(type, some.address(), values, 0, now);
                HostOps.view().store(DType.FLOAT64, to + (parameter.start() + done) * Double.BYTES, values, 0, now);
            }
        }
    }

    /** Returns the checkpoint's folder. */
    public Path folder() {
        return folder;
    }

    /** Returns the size of the model. */
    public DenseModel model() {
        return model;
    }

    /** Returns the tokens of a sequence in training, {@code max_position_embeddings}; 0 where config.json has none. */
    public long positions() {
        return positions;
    }

    /** Returns the number of learnt values. */
    public long parameterCount() {
        return parameters.elements();
    }

    Parameters parameters() {
        return parameters;
    }

    /** Returns the address of the weight at {@code element}, among all, float64. */
    long weight(long element) {
        return weights.address() + element * Double.BYTES;
    }

    @Override
    public void close() {
        weights.close();
    }
}
