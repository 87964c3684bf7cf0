package org.flashring.docs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.data.Offset.offset;

import java.io.StringWriter;
import java.lang.reflect.Method;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;
import org.flashring.Layout;
import org.flashring.comm.Communicator;
import org.flashring.comm.local.LocalGroup;
import org.flashring.device.Memory;
import org.flashring.support.Capped;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The README's example compiles as it stands, and does what it says. */
@Capped
class ReadmeTest {
    private static final int WORLD = 3;
    private static final int LENGTH = 17;
    private static final int HEADS = 32 * 128;
    private static final int KV_HEADS = 8 * 128;

    @TempDir
    Path folder;

    @Test
    void exampleRuns() throws Exception {
        try (URLClassLoader loader = new URLClassLoader(new URL[] {compile(example()).toUri().toURL()})) {
            Method attend = List.of(loader.loadClass("Example").getDeclaredMethods()).stream()
                    .filter(method -> method.getName().equals("attend")).findFirst().orElseThrow();
            attend.setAccessible(true);
            LocalGroup.run(WORLD, ranks -> attend(attend, ranks));
        }
    }

    private static Void attend(Method attend, Communicator ranks) {
        int tokens = (int) Layout.zigzag(LENGTH, WORLD).localLength(ranks.rank());
        List<FloatBuffer> tensors = new ArrayList<>(); // q, k, v, out, lse, dout, dq, dk, dv
        for (int size : new int[] {HEADS, KV_HEADS, KV_HEADS, HEADS, 32, HEADS, HEADS, KV_HEADS, KV_HEADS}) {
            FloatBuffer tensor = ByteBuffer.allocateDirect(tokens * size * Float.BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer();
            boolean written = List.of(3, 4, 6, 7, 8).contains(tensors.size());
            for (int i = 0; i < tensor.capacity(); i++) {
                tensor.put(i, written ? Float.NaN : 1);
            }
            tensors.add(tensor);
        }
        List<Object> arguments = new ArrayList<>(List.of(ranks, (long) LENGTH));
        tensors.forEach(tensor -> arguments.add(Memory.of(tensor).address()));
        try {
            attend.invoke(null, arguments.toArray());
        } catch (ReflectiveOperationException e) {
            throw new AssertionError(e);
        }
        for (int i = 0; i < tokens * HEADS; i++) { // equal values average to themselves, and no weight moves them
            assertThat(tensors.get(3).get(i)).as("out[%d]", i).isCloseTo(1, offset(1e-5f));
            assertThat(tensors.get(6).get(i)).as("dq[%d]", i).isCloseTo(0, offset(1e-3f));
        }
        return null;
    }

    private static String example() throws Exception {
        Matcher block = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(Files.readString(Path.of("README.md")));
        assertThat(block.find()).as("a java block in README.md").isTrue();
        String imports = Stream.of("java.util.function", "org.flashring", "org.flashring.attention", "org.flashring.comm", "org.flashring.device",
                "org.flashring.plan").map(name -> "import " + name + ".*; ").collect(Collectors.joining());
        return imports + "\nclass Example {\n" + block.group(1) + "}\n";
    }

    private Path compile(String text) throws Exception {
        Path source = Files.writeString(folder.resolve("Example.java"), text);
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StringWriter messages = new StringWriter();
        try (StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null)) {
            List<String> options = List.of("--release", "17", "-proc:none", "-d", folder.toString(), "-classpath", System.getProperty("java.class.path"));
            assertThat(compiler.getTask(messages, files, null, options, null, files.getJavaFileObjects(source)).call()).as(messages.toString()).isTrue();
        }
        return folder;
    }
}
