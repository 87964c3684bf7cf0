package org.flashring.internal;

import org.bytedeco.javacpp.FunctionPointer;
import org.bytedeco.javacpp.annotation.Cast;
import org.bytedeco.javacpp.annotation.Namespace;
import org.bytedeco.javacpp.annotation.NoException;
import org.bytedeco.javacpp.annotation.Platform;
import org.bytedeco.javacpp.annotation.Properties;

/**
 * {@code libtorch.h}, one for one: tensors and graphs of a libtorch that another framework has loaded. A tensor is the
 * address of its {@code at::Tensor}. What libtorch throws is a {@link RuntimeException} with its words. Part of the
 * library of {@link Native}.
 */
@Properties(
        inherit = org.bytedeco.javacpp.presets.javacpp.class,
        value = @Platform(value = "linux-x86_64", compiler = "cpp17", include = "libtorch.h", library = "jniNative"))
@Namespace("flashring::libtorch")
public final class LibTorch {
    static {
        Native.version();
    }

    private LibTorch() {}

    /** Returns if the library is loaded: to be called before a hook is made, which does not load it. */
    public static void requireLoaded() {
        Native.version();
    }

    /** Length of what {@link #describe} writes. */
    public static final int FACTS = 16;

    public static final int CPU = 0;
    public static final int CUDA = 1;

    // spotless:off: as few lines as they fit in
    public static native @NoException @Cast("const char*") String open(String cpu, String cuda);
    public static native void describe(@Cast("void*") long tensor, @Cast("int64_t*") long[] facts);
    public static native @Cast("void*") long empty(
            @Cast("int64_t") long dim, @Cast("const int64_t*") long[] sizes, @Cast("const int64_t*") long[] strides,
            int dtype, int device, int index);
    public static native void copy(@Cast("void*") long to, @Cast("void*") long from);
    public static native @Cast("void*") long detach(@Cast("void*") long tensor);
    public static native @NoException void free(@Cast("void*") long tensor);
    public static native @Cast("int64_t") long version(@Cast("void*") long tensor);
    public static native @Cast("void*") long currentCudaStream(int device);
    public static native void attach(
            @Cast("void*") long out, @Cast("void*") long q, @Cast("void*") long k, @Cast("void*") long v,
            @Cast("void*") long sinks, int dtype, int device, int index,
            @Cast("int64_t") long node, GradientHook hook, GraphGone gone);
    // spotless:on

    /** Told of gradients, in the thread of PyTorch that runs backward. What it throws goes through backward. */
    public static class GradientHook extends FunctionPointer {
        protected GradientHook() {
            allocate();
        }

        private native void allocate();

        /**
         * Returns the tensor that goes on in place of {@code gradient}, which is valid for the length of the call.
         *
         * @param which 0, 1, 2, 3 for that of q, k, v, the sinks; 4 for that of the result, which comes first
         */
        public native @Cast("void*") long call(@Cast("int64_t") long node, int which, @Cast("void*") long gradient);
    }

    /** Told that nothing refers to the graph of a node any more, in whatever thread let it go. Throws nothing. */
    public static class GraphGone extends FunctionPointer {
        protected GraphGone() {
            allocate();
        }

        private native void allocate();

        public native void call(@Cast("int64_t") long node);
    }
}
