package org.flashring.cli.support;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.FilterOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.channels.Pipe;
import java.nio.charset.Charset;
import java.util.Objects;

/** A writer that remembers why what was printed did not arrive; a {@link PrintWriter} knows only that. */
public final class Output extends PrintWriter {
    private final Sink sink;

    private Output(Sink sink, Charset charset) {
        super(new OutputStreamWriter(sink, charset), true);
        this.sink = sink;
    }

    /** Returns the standard output of this process, in the character set of the terminal or the locale. */
    public static Output standard() {
        String charset = System.getProperty(
                "stdout.encoding", System.getProperty("sun.stdout.encoding")); // since JDK 19, before
        return to(
                new FileOutputStream(FileDescriptor.out),
                charset == null ? Charset.defaultCharset() : Charset.forName(charset));
    }

    /** Returns a writer to {@code stream}. */
    public static Output to(OutputStream stream, Charset charset) {
        return new Output(new Sink(stream), charset);
    }

    /**
     * Throws if something that was printed to {@code out} did not arrive, unless its reader left, as that of a pipe may
     * who has seen enough.
     */
    public static void requireArrived(PrintWriter out) throws IOException {
        if (!out.checkError()) {
            return;
        }
        IOException cause = out instanceof Output output ? output.sink.failure : null;
        if (cause == null || !readerLeft(cause)) {
            throw new IOException(
                    "the results could not be printed" + (cause == null ? "" : ": " + cause.getMessage()) + ".", cause);
        }
    }

    /** The system says it in the words of the locale, so a pipe whose reader has left is asked for them. */
    private static boolean readerLeft(IOException cause) throws IOException {
        Pipe pipe = Pipe.open();
        pipe.source().close();
        try (Pipe.SinkChannel sink = pipe.sink()) {
            sink.write(ByteBuffer.allocate(1));
            return false;
        } catch (IOException words) {
            return Objects.equals(words.getMessage(), cause.getMessage());
        }
    }

    private static final class Sink extends FilterOutputStream {
        private volatile IOException failure;

        Sink(OutputStream stream) {
            super(stream);
        }

        @Override
        public void write(byte[] bytes, int offset, int length) throws IOException {
            try {
                out.write(bytes, offset, length);
            } catch (IOException e) {
                failure = e;
                throw e;
            }
        }
    }
}
