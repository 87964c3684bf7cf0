package org.flashring.cli.support;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import org.flashring.Threads;

/**
 * The processor that results were got on.
 *
 * @param processor model name
 * @param features vector extensions that kernels of this library or of its peers look for, as the kernel of the system
 *     names them
 * @param threads workers that a call of the native library may use
 */
public record Machine(String processor, List<String> features, int threads) {
    private static final Set<String> FEATURES = Set.of(
            "sse2",
            "avx2",
            "fma",
            "f16c",
            "avx512f",
            "avx512bw",
            "avx512dq",
            "avx512vl",
            "avx512_bf16",
            "avx512_fp16",
            "amx_tile",
            "amx_bf16",
            "amx_fp16");

    /** Returns the one that this process runs on. */
    public static Machine current() {
        String[] flags = cpuInfo("flags").split(" ");
        return new Machine(
                cpuInfo("model name"),
                Arrays.stream(flags).filter(FEATURES::contains).sorted().toList(),
                Threads.get());
    }

    private static String cpuInfo(String key) {
        try (var lines = Files.lines(Path.of("/proc/cpuinfo"))) {
            return lines.filter(line -> line.startsWith(key))
                    .findFirst()
                    .map(line -> line.substring(line.indexOf(':') + 1).strip())
                    .orElse("unknown");
        } catch (IOException e) {
            return "unknown";
        }
    }
}
