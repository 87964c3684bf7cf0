package org.flashring.cli.train.dense;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.flashring.DType;
import org.flashring.cli.train.dense.Parameters.Parameter;
import org.flashring.cli.train.dense.ShardedAdamW.Share;
import org.flashring.cli.train.dense.ShardedAdamW.State;

/**
 * A folder that a run goes on from, on any number of ranks: {@code model.safetensors} and {@code config.json}, as
 * Hugging Face's Llama has them, {@code optimizer.safetensors} and {@code state.json}. It is whole or not there: each
 * rank writes its bytes into a folder beside, which takes the name once all of them are on disk.
 */
public final class Checkpoint {
    private static final String PREFIX = "checkpoint-";
    private static final String MODEL = "model.safetensors";
    private static final String OPTIMIZER = "optimizer.safetensors";
    private static final String STATE = "state.json";
    private static final String WRITING = ".writing";
    private static final String OLD = ".old";
    private static final int FORMAT = 1;

    /** What a sentence about a missing checkpoint ends with. */
    static final String ORIGIN = "which train --engine dense writes with --checkpoint-every STEPS";

    private static final Gson GSON = new GsonBuilder().setPrettyPrinting().create();
    private static final List<String> NAMES = List.of("master", "exp_avg", "exp_avg_sq"); // as State's values

    /** What state.json holds: steps done, updates taken of them, the model, and what it learnt, as far as told. */
    private record Saved(
            int format,
            long step,
            long updates,
            String dtype,
            DenseModel model,
            String text,
            Map<String, String> rows) {}

    private Checkpoint() {}

    /** Returns the folder of the checkpoint of a step. */
    public static Path folder(Path runs, long step) {
        return runs.resolve(String.format(Locale.ROOT, PREFIX + "%08d", step));
    }

    /**
     * Returns the checkpoint that {@code path} is, or the latest in it.
     *
     * @throws IllegalArgumentException if there is none
     */
    public static Path latest(Path path) {
        if (Files.isRegularFile(path.resolve(STATE))) {
            return path;
        }
        return in(path, STATE)
                .orElseThrow(() -> new IllegalArgumentException("--resume is " + path
                        + "; it must be a checkpoint, a folder with " + STATE + ", or hold one, " + ORIGIN));
    }

    /**
     * Throws if a checkpoint of a later step than {@code step} is in {@code runs}: of another run, which whoever
     * resumes there would go on with.
     */
    public static void requireNoneAfter(Path runs, long step) {
        in(runs, STATE).ifPresent(latest -> {
            if (stepOf(latest) > step) {
                throw new IllegalArgumentException("--out holds " + latest + ", a checkpoint of a later step than "
                        + step + ", from which this run starts; give another folder, or remove it");
            }
        });
    }

    private static long stepOf(Path folder) {
        return Long.parseLong(folder.getFileName().toString().substring(PREFIX.length()));
    }

    /** Returns the latest checkpoint in a folder that has {@code file}, if any. */
    static Optional<Path> in(Path runs, String file) {
        if (!Files.isDirectory(runs)) {
            return Optional.empty();
        }
        try {
            recover(runs);
            try (Stream<Path> inside = Files.list(runs)) {
                return inside.filter(each -> each.getFileName().toString().matches(PREFIX + "[0-9]{8,18}")
                                && Files.isRegularFile(each.resolve(file)))
                        .max(Comparator.comparingLong(Checkpoint::stepOf));
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Gives a checkpoint its name back that a run was about to replace when it was killed. */
    private static void recover(Path runs) throws IOException {
        List<Path> replaced;
        try (Stream<Path> inside = Files.list(runs)) {
            replaced = inside.filter(
                            each -> each.getFileName().toString().matches("\\." + PREFIX + "[0-9]{8,18}" + "\\" + OLD))
                    .toList();
        }
        for (Path old : replaced) {
            String name = old.getFileName().toString();
            Path folder = old.resolveSibling(name.substring(1, name.length() - OLD.length()));
            if (!Files.exists(folder)) {
                try {
                    Files.move(old, folder, StandardCopyOption.ATOMIC_MOVE);
                } catch (NoSuchFileException e) {
                    // another rank has done it
                }
            }
        }
    }

    /** As the other one, of a lesson that is not told. */
    public static Path write(Path runs, long step, DenseRank rank) {
        return write(runs, step, new Lesson(null, null), rank);
    }

    /**
     * Writes a checkpoint in {@code runs}, after {@code step} steps, and returns its folder. Collective; the ranks
     * share the file system.
     *
     * @throws UncheckedIOException if it cannot be written; the earlier ones are then still there
     */
    public static Path write(Path runs, long step, Lesson lesson, DenseRank rank) {
        Path folder = folder(runs, step);
        Path beside = runs.resolve("." + folder.getFileName() + WRITING);
        try {
            if (rank.all().rank() == 0) {
                Files.createDirectories(runs);
                recover(runs);
                delete(beside);
                Files.createDirectories(beside);
                create(beside.resolve(MODEL), modelEntries(rank));
                create(beside.resolve(OPTIMIZER), optimizerEntries(rank));
            }
            rank.all().barrier();
            writeShares(beside, rank);
            rank.all().barrier();
            if (rank.all().rank() == 0) {
                finish(beside, folder, step, lesson, rank);
            }
            rank.all().barrier();
            return folder;
        } catch (IOException e) {
            throw new UncheckedIOException("the checkpoint " + folder + " cannot be written: " + e.getMessage(), e);
        }
    }

    private static void finish(Path beside, Path folder, long step, Lesson lesson, DenseRank rank) throws IOException {
        DenseSettings settings = rank.settings();
        String dtype = settings.type().toString().toLowerCase(Locale.ROOT);
        writeJson(
                beside.resolve(STATE),
                new Saved(
                        FORMAT,
                        step,
                        rank.optimizer().updates(),
                        dtype,
                        settings.model(),
                        lesson.text(),
                        lesson.rows()));
        writeJson(beside.resolve("config.json"), LlamaConfig.of(settings.model(), dtype, settings.length()));
        force(beside);
        Path old = folder.resolveSibling("." + folder.getFileName() + OLD);
        if (Files.exists(folder)) {
            delete(old);
            Files.move(folder, old, StandardCopyOption.ATOMIC_MOVE);
        }
        Files.move(beside, folder, StandardCopyOption.ATOMIC_MOVE);
        delete(old);
        force(folder.toAbsolutePath().getParent());
    }

    private static void writeJson(Path file, Object value) throws IOException {
        ByteBuffer bytes = StandardCharsets.UTF_8.encode(GSON.toJson(value) + "\n");
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            Safetensors.writeFully(channel, bytes, 0);
            channel.force(true);
        }
    }

    /** Makes the names in a folder last. */
    private static void force(Path folder) throws IOException {
        try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }

    private static void delete(Path folder) throws IOException {
        if (Files.exists(folder)) {
            try (Stream<Path> inside = Files.walk(folder)) {
                for (Path each : inside.sorted(Comparator.reverseOrder()).toList()) {
                    Files.delete(each);
                }
            }
        }
    }

    private static void create(Path file, Map<String, Safetensors.Entry> entries) throws IOException {
        ByteBuffer header = Safetensors.header(entries);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            Safetensors.writeFully(channel, header, 0);
        }
    }

    private static Map<String, Safetensors.Entry> modelEntries(DenseRank rank) {
        Map<String, Safetensors.Entry> entries = new LinkedHashMap<>();
        DType type = rank.ops().type();
        for (Parameter parameter : rank.parameters().all()) {
            entries.put(
                    parameter.name(), new Safetensors.Entry(type, parameter.shape(), parameter.start() * type.bytes()));
        }
        return entries;
    }

    private static Map<String, Safetensors.Entry> optimizerEntries(DenseRank rank) {
        Map<String, Safetensors.Entry> entries = new LinkedHashMap<>();
        DType wide = rank.ops().wide();
        for (State state : State.values()) {
            long before = state.ordinal() * rank.parameterCount();
            for (Parameter parameter : rank.parameters().all()) {
                entries.put(
                        name(parameter, state),
                        new Safetensors.Entry(wide, parameter.shape(), (before + parameter.start()) * wide.bytes()));
            }
        }
        return entries;
    }

    private static String name(Parameter parameter, State state) {
        return parameter.name() + "." + NAMES.get(state.ordinal());
    }

    /** A part of a parameter that lies in a share. */
    private interface Piece {
        void at(Parameter parameter, Share share, long first, long count) throws IOException;
    }

    private static void pieces(DenseRank rank, Piece body) throws IOException {
        for (Share share : rank.optimizer().shares()) {
            for (Parameter parameter : rank.parameters().all()) {
                long first = Math.max(share.first(), parameter.start());
                long end = Math.min(share.first() + share.count(), parameter.end());
                if (first < end) {
                    body.at(parameter, share, first, end - first);
                }
            }
        }
    }

    private static void writeShares(Path folder, DenseRank rank) throws IOException {
        DType type = rank.ops().type();
        DType wide = rank.ops().wide();
        try (FileChannel model =
                        FileChannel.open(folder.resolve(MODEL), StandardOpenOption.READ, StandardOpenOption.WRITE);
                FileChannel optimizer = FileChannel.open(
                        folder.resolve(OPTIMIZER), StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            long modelStart = Safetensors.header(modelEntries(rank)).remaining();
            long optimizerStart = Safetensors.header(optimizerEntries(rank)).remaining();
            for (Share share : rank.optimizer().shares()) {
                rank.staging()
                        .write(
                                model,
                                modelStart + share.first() * type.bytes(),
                                rank.optimizer().weight(share.first()),
                                share.count() * type.bytes());
                for (State state : State.values()) {
                    long element = state.ordinal() * rank.parameterCount() + share.first();
                    rank.staging()
                            .write(
                                    optimizer,
                                    optimizerStart + element * wide.bytes(),
                                    rank.optimizer().address(state, share),
                                    share.count() * wide.bytes());
                }
            }
            model.force(true);
            optimizer.force(true);
        }
    }

    /**
     * Returns the number of steps that a checkpoint had done.
     *
     * @throws IllegalArgumentException if the checkpoint is of another model or type than the settings
     * @throws UncheckedIOException if it cannot be read
     */
    public static long steps(Path folder, DenseSettings settings) {
        try {
            return saved(folder, settings).step();
        } catch (IOException e) {
            throw unreadable(e);
        }
    }

    /**
     * Throws if a checkpoint tells that it learnt another text or other rows of it.
     *
     * @throws IllegalArgumentException if it does
     * @throws UncheckedIOException if it cannot be read
     */
    public static void require(Path folder, Lesson lesson) {
        try {
            Saved saved = saved(folder.resolve(STATE));
            lesson.requireLearnt(folder, new Lesson(saved.text(), saved.rows()));
        } catch (IOException e) {
            throw unreadable(e);
        }
    }

    static UncheckedIOException unreadable(IOException e) {
        String why = e instanceof NoSuchFileException ? e.getMessage() + " is not there" : e.getMessage();
        return new UncheckedIOException("the checkpoint cannot be read: " + why, e);
    }

    /**
     * Returns the number of steps that were done, having set the parameters and the optimizer's state to those of a
     * checkpoint. Collective.
     *
     * @throws IllegalArgumentException if the checkpoint is of another model or type
     * @throws UncheckedIOException if it cannot be read
     */
    public static long read(Path folder, DenseRank rank) {
        try {
            Saved saved = saved(folder, rank.settings());
            Path file = folder.resolve(OPTIMIZER);
            DType wide = rank.ops().wide();
            try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
                Safetensors tensors = Safetensors.read(file, channel);
                pieces(rank, (parameter, share, first, count) -> {
                    for (State state : State.values()) {
                        long start = tensors.position(file, name(parameter, state), wide, parameter.shape());
                        rank.staging()
                                .read(
                                        file,
                                        channel,
                                        start + (first - parameter.start()) * wide.bytes(),
                                        rank.optimizer().address(state, share) + (first - share.first()) * wide.bytes(),
                                        count * wide.bytes());
                    }
                });
            }
            rank.optimizer().updates(saved.updates());
            rank.optimizer().publish();
            return saved.step();
        } catch (IOException e) {
            throw unreadable(e);
        }
    }

    private static Saved saved(Path folder, DenseSettings settings) throws IOException {
        Saved saved = saved(folder.resolve(STATE));
        String dtype = settings.type().toString().toLowerCase(Locale.ROOT);
        if (!settings.model().equals(saved.model()) || !dtype.equals(saved.dtype())) {
            throw new IllegalArgumentException("--resume is " + folder + " of " + saved.model() + ", " + saved.dtype()
                    + "; it must be of " + settings.model() + ", " + dtype + ", which this run asks for");
        }
        return saved;
    }

    private static Saved saved(Path file) throws IOException {
        Saved saved;
        try {
            JsonObject json = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
            saved = GSON.fromJson(json, Saved.class);
        } catch (JsonParseException | IllegalStateException e) {
            throw new IOException(file + " is not of the form that it was written in", e);
        }
        if (saved.format() != FORMAT) {
            throw new IOException(file + " is of format " + saved.format() + "; this version reads " + FORMAT);
        }
        return saved;
    }
}
