package org.flashring.cli.train.dense;

import static org.bytedeco.cuda.global.cudart.CUDA_SUCCESS;
import static org.bytedeco.cuda.global.cudart.cuGetErrorName;
import static org.bytedeco.cuda.global.cudart.cuLaunchKernel;
import static org.bytedeco.cuda.global.cudart.cuModuleGetFunction;
import static org.bytedeco.cuda.global.cudart.cuModuleLoadData;
import static org.bytedeco.cuda.global.cudart.cuModuleUnload;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.HashMap;
import java.util.Map;
import org.bytedeco.cuda.cudart.CUfunc_st;
import org.bytedeco.cuda.cudart.CUmod_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerPointer;

/** The kernels of {@code cuda/train}, loaded for the current device. Of one thread, whose current device that stays. */
final class CudaKernels implements AutoCloseable {
    private static final String CODE = "train.fatbin";
    private static final int PARAMETERS = 16;

    private final CUmod_st module = new CUmod_st();
    private final Map<String, CUfunc_st> functions = new HashMap<>();
    private final LongPointer values = new LongPointer(PARAMETERS);
    private final PointerPointer<LongPointer> parameters = new PointerPointer<>(PARAMETERS); // where each value lies
    private final CUstream_st stream;

    /**
     * Loads them, to be launched in the order of a stream.
     *
     * @throws UnsupportedOperationException if this build has none
     */
    CudaKernels(long stream) {
        this.stream = new CUstream_st(new DeviceAddress().at(stream));
        for (int i = 0; i < PARAMETERS; i++) {
            parameters.put(i, values.getPointer(i));
        }
        try (BytePointer code = new BytePointer(code())) {
            check(cuModuleLoadData(module, code), "cuModuleLoadData of " + CODE);
        }
    }

    private static byte[] code() {
        try (InputStream resource = CudaKernels.class.getResourceAsStream(CODE)) {
            if (resource == null) {
                throw new UnsupportedOperationException(
                        "this build has no CUDA kernels for training: it was made without nvcc");
            }
            return resource.readAllBytes();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /**
     * Queues a kernel.
     *
     * @param blocksY of the grid's second axis
     * @param shared bytes of dynamic shared memory
     * @param arguments of 8 bytes each: addresses, integers, and float64 by their bits
     */
    void launch(String name, long blocks, long blocksY, int threads, int shared, long... arguments) {
        CUfunc_st function = functions.get(name);
        if (function == null) {
            function = new CUfunc_st();
            check(cuModuleGetFunction(function, module, name), "cuModuleGetFunction of " + name);
            functions.put(name, function);
        }
        values.put(arguments, 0, arguments.length);
        int status = cuLaunchKernel(
                function,
                Math.toIntExact(blocks),
                Math.toIntExact(blocksY),
                1,
                threads,
                1,
                1,
                shared,
                stream,
                parameters,
                null);
        if (status != CUDA_SUCCESS) {
            check(status, "cuLaunchKernel of " + name);
        }
    }

    private static void check(int status, String call) {
        if (status == CUDA_SUCCESS) {
            return;
        }
        try (PointerPointer<Pointer> name = new PointerPointer<>(1)) {
            String known = cuGetErrorName(status, name) == CUDA_SUCCESS
                    ? new BytePointer(name.get()).getString()
                    : "error " + status;
            throw new IllegalStateException(call + " failed with " + known);
        }
    }

    @Override
    public void close() {
        if (!module.isNull()) {
            check(cuModuleUnload(module), "cuModuleUnload");
            module.setNull();
        }
        parameters.close();
        values.close();
    }
}
