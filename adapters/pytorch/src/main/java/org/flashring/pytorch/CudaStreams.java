package org.flashring.pytorch;

import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.pytorch.global.torch_cuda;
import org.flashring.device.Device;

/** PyTorch's current stream of a device. Apart, so that programs for the host never load PyTorch's CUDA classes. */
final class CudaStreams {
    private CudaStreams() {}

    /** Returns the {@code cudaStream_t} that this thread's work on {@code device} goes to; 0 for the host. */
    static long current(Device device) {
        return device.isCuda() ? Cuda.current(device.ordinal()) : 0;
    }

    private static final class Cuda {
        static long current(int ordinal) {
            CUstream_st stream = torch_cuda.getCurrentCUDAStream((byte) ordinal).stream();
            return stream == null ? 0 : stream.address(); // PyTorch's default stream is the null pointer
        }
    }
}
