package org.flashring.internal;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.Set;
import org.bytedeco.javacpp.Loader;

/**
 * Says why native libraries could not be loaded and what helps. It looks at the machine rather than at messages: what
 * JavaCPP throws is that of the last place it looked in, and the system's words come in the user's language.
 */
final class LoadFailure {
    private static final String BUILT_FOR = "linux-x86_64";
    private static final String OTHER_FOLDER = "-Dorg.bytedeco.javacpp.cachedir=FOLDER";

    private final Class<?> binding;
    private final String what;

    LoadFailure(Class<?> binding) {
        this.binding = binding;
        this.what = binding == Native.class ? "FlashRing's native library" : "the library behind " + binding.getName();
    }

    /** Returns the sentence, given what loading threw. */
    String explain(Throwable thrown) {
        String platform = Loader.getPlatform();
        return what + " for " + platform + " cannot be loaded: " + reason(platform, thrown);
    }

    private String reason(String platform, Throwable thrown) {
        if (binding == Native.class && !platform.equals(BUILT_FOR)) {
            return "FlashRing runs on " + BUILT_FOR + " alone, and there is no build for this machine";
        }
        if (thrown instanceof IllegalCallerException) {
            return "this JVM forbids native code; start it with --enable-native-access=" + modules() + " ("
                    + thrown.getMessage() + ")";
        }
        Path cache;
        try {
            cache = Loader.getCacheDir().toPath();
        } catch (IOException e) {
            return "there is no folder to unpack it to that this process may write to; set " + OTHER_FOLDER + " to one";
        }
        String missing = missingJar(platform);
        return missing != null ? "add " + missing + " to the class path" : cacheTrouble(cache, thrown);
    }

    /** Returns the modules that call native code, as the JVM's option wants them. */
    private static String modules() {
        Set<String> names = new LinkedHashSet<>();
        for (Class<?> caller : new Class<?>[] {Loader.class, Native.class}) {
            names.add(caller.getModule().isNamed() ? caller.getModule().getName() : "ALL-UNNAMED");
        }
        return String.join(",", names);
    }

    /** Returns the jar of natives that is not there, or null. */
    private String missingJar(String platform) {
        if (Loader.class.getResource(platform + "/libjnijavacpp.so") == null) {
            return "javacpp-<version>-" + platform + ".jar";
        }
        boolean ours = binding == Native.class && Native.class.getResource(library(platform)) == null;
        return ours ? "flashring-<version>-" + platform + ".jar" : null;
    }

    private static String library(String platform) {
        return platform + "/libflashring.so";
    }

    /** Returns what happens to a copy of the library in the cache. */
    private String cacheTrouble(Path cache, Throwable thrown) {
        Path copy = null;
        try (InputStream library = Native.class.getResourceAsStream(library(BUILT_FOR))) {
            copy = Files.createTempFile(cache, "flashring", ".so");
            if (library != null) {
                Files.write(copy, library.readAllBytes());
            }
            File file = copy.toFile();
            if (file.setExecutable(true) && !file.canExecute()) { // though it has the permission
                return cache + ", where it is unpacked, lies on a file system mounted noexec; set " + OTHER_FOLDER
                        + " to one elsewhere";
            }
        } catch (IOException e) {
            return cache + ", where it is unpacked, cannot take it (" + words(e) + "); make room there or set "
                    + OTHER_FOLDER;
        } finally {
            delete(copy);
        }
        return words(thrown);
    }

    private static void delete(Path copy) {
        try {
            if (copy != null) {
                Files.deleteIfExists(copy);
            }
        } catch (IOException e) {
            copy.toFile().deleteOnExit();
        }
    }

    /** Returns the message nearest to what happened. */
    private static String words(Throwable thrown) {
        Throwable root = thrown;
        while (root.getCause() != null) {
            root = root.getCause();
        }
        boolean speaks = root instanceof UnsatisfiedLinkError || root.getClass() == IOException.class;
        return speaks ? root.getMessage() : root.toString();
    }
}
