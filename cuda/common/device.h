// The host side of every launch: errors, the current device, grids of any size.
#ifndef FLASHRING_CUDA_COMMON_DEVICE_H
#define FLASHRING_CUDA_COMMON_DEVICE_H

#include <cuda_runtime.h>

#include "common/shared_memory.h"
#include "failure.h"
#include "rounding.h"

namespace flashring {

// Fails with FLASHRING_DEVICE_ERROR naming the call.
void check(cudaError_t error, const char* call);

// Makes a device current, and the caller's own again at the end of the scope. Fails with FLASHRING_UNSUPPORTED where
// the device does not meet kCudaRequirement.
class DeviceScope {
public:
    explicit DeviceScope(int32_t device);
    ~DeviceScope();
    DeviceScope(const DeviceScope&) = delete;
    DeviceScope& operator=(const DeviceScope&) = delete;

private:
    int previous_ = 0;
    bool changed_ = false;
};

// Of this device: 80, 90, ...
int computeCapability(int32_t device);

int multiprocessors(int32_t device);

// The tiles that run on this device: the largest set for what a block may ask of it, or the cap in
// FLASHRING_CUDA_SHARED_MEMORY where that is less.
SharedMemory sharedMemory(int32_t device);

// True for a device of compute capability 9.0 whose shared memory is not capped.
bool isHopper(int32_t device);

// True where some device of this process meets kCudaRequirement.
bool anyDeviceCapable();

// When a kernel starts: after everything before it in the stream, or as soon as the kernel before it allows and there
// is room (programmatic dependent launch). A kernel that starts early calls waitForEarlierKernel() before it touches
// global memory.
enum class Start { InOrder, Early };

void launchUntyped(const void* kernel, const char* name, Start start, int64_t blocks, int threads, int sharedBytes,
                   void** arguments, cudaStream_t stream);

// Starts a kernel on a grid of any number of blocks, none included.
template <class... Parameters>
void launch(void (*kernel)(Parameters...), const char* name, Start start, int64_t blocks, int threads, int sharedBytes,
            void* stream, Parameters... parameters) {
    void* arguments[] = {&parameters...};
    launchUntyped(reinterpret_cast<const void*>(kernel), name, start, blocks, threads, sharedBytes, arguments,
                  static_cast<cudaStream_t>(stream));
}

template <class... Parameters>
void launch(void (*kernel)(Parameters...), const char* name, int64_t blocks, int threads, int sharedBytes, void* stream,
            Parameters... parameters) {
    launch(kernel, name, Start::InOrder, blocks, threads, sharedBytes, stream, parameters...);
}

}  // namespace flashring

#endif
