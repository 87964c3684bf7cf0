// Which CUDA devices this process can use, asked once, and how kernels are started. The CUDA runtime is linked
// statically and finds the driver itself.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "common/device.h"
#include "common/shared_memory_cap.h"
#include "kernels.h"

namespace flashring {
namespace {

struct Facts {
    int capability = 0, multiprocessors = 0, sharedBytes = 0;  // the most shared memory that a block may ask for
    SharedMemory tiles = SharedMemory::None;

    Facts(int device, int cap) {
        int major = 0, minor = 0;
        if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
            cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
            cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device) == cudaSuccess &&
            cudaDeviceGetAttribute(&sharedBytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess) {
            capability = major * 10 + minor;
            sharedBytes = std::min(sharedBytes, cap);
            tiles = tileSet(capability, sharedBytes);
        }
    }
};

struct Devices {
    int count = 0;
    std::vector<Facts> facts;
    bool capable = false;
    char cause[200] = "";

    Devices() {
        const SharedMemoryCap cap;
        if (!cap.valid()) {
            cap.explain(cause, sizeof cause);
            return;
        }
        int driver = 0;
        if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
            std::snprintf(cause, sizeof cause, "no NVIDIA driver (libcuda.so.1) was found");
            return;
        }
        const cudaError_t error = cudaGetDeviceCount(&count);
        if (error != cudaSuccess) {
            count = 0;
            std::snprintf(cause, sizeof cause, "%s (driver for CUDA %d.%d)", cudaGetErrorString(error), driver / 1000,
                          driver % 1000 / 10);
        } else if (count == 0) {
            std::snprintf(cause, sizeof cause, "there is no CUDA device");
        }
        for (int device = 0; device < count; ++device) {
            facts.emplace_back(device, cap.bytes());
            capable |= facts.back().tiles != SharedMemory::None;
        }
    }
};

const Devices& devices() {
    static const Devices found;
    return found;
}

const Facts& factsOf(int32_t device) { return devices().facts[static_cast<size_t>(device)]; }

}  // namespace

int computeCapability(int32_t device) { return factsOf(device).capability; }

int multiprocessors(int32_t device) { return factsOf(device).multiprocessors; }

SharedMemory sharedMemory(int32_t device) { return factsOf(device).tiles; }

bool isHopper(int32_t device) { return computeCapability(device) == 90 && sharedMemory(device) == SharedMemory::KB227; }

bool anyDeviceCapable() { return devices().capable; }

void check(cudaError_t error, const char* call) {
    if (error != cudaSuccess) {
        cudaGetLastError();  // the failure is reported here; it must not surface again in the caller's next check
        fail(FLASHRING_DEVICE_ERROR, "%s: %s (%s)", call, cudaGetErrorString(error), cudaGetErrorName(error));
    }
}

DeviceScope::DeviceScope(int32_t device) {
    const Facts& facts = factsOf(device);
    if (facts.tiles == SharedMemory::None) {
        fail(FLASHRING_UNSUPPORTED,
             "device = %d is of compute capability %d.%d with %d KB of shared memory a block: kernels need %s", device,
             facts.capability / 10, facts.capability % 10, facts.sharedBytes >> 10, kCudaRequirement);
    }
    check(cudaGetDevice(&previous_), "cudaGetDevice");
    if (previous_ != device) {
        check(cudaSetDevice(device), "cudaSetDevice");
        changed_ = true;
    }
}

DeviceScope::~DeviceScope() {
    if (changed_) {
        cudaSetDevice(previous_);
    }
}

void launchUntyped(const void* kernel, const char* name, Start start, int64_t blocks, int threads, int sharedBytes,
                   void** arguments, cudaStream_t stream) {
    constexpr int kDefaultSharedBytes = 48 << 10;  // more needs the kernel's consent
    if (blocks == 0) {
        return;
    }
    if (blocks > INT32_MAX) {
        fail(FLASHRING_UNSUPPORTED, "%s: %lld blocks are more than a CUDA grid holds", name,
             static_cast<long long>(blocks));
    }
    if (sharedBytes > kDefaultSharedBytes) {
        int device = 0;
        check(cudaGetDevice(&device), "cudaGetDevice");
        const int most = factsOf(device).sharedBytes;
        if (sharedBytes > most) {
            fail(FLASHRING_UNSUPPORTED, "%s: needs %d bytes of shared memory a block, device %d has %d", name,
                 sharedBytes, device, most);
        }
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sharedBytes), name);
    }
    // A multiprocessor changes its split between cache and shared memory only when it is empty, so kernels that are to
    // overlap on one ask for the same split.
    cudaLaunchAttribute early[2]{};
    early[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early[0].val.programmaticStreamSerializationAllowed = 1;
    early[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
    early[1].val.sharedMemCarveout = cudaSharedmemCarveoutMaxShared;
    cudaLaunchConfig_t config{};
    config.gridDim = static_cast<unsigned>(blocks);
    config.blockDim = static_cast<unsigned>(threads);
    config.dynamicSmemBytes = static_cast<size_t>(sharedBytes);
    config.stream = stream;
    config.attrs = early;
    config.numAttrs = start == Start::Early ? 2 : 0;
    check(cudaLaunchKernelExC(&config, kernel, arguments), name);
}

}  // namespace flashring

int32_t flashring_device_tiles(int32_t device) {
    return device >= 0 && device < flashring::devices().count ? static_cast<int32_t>(flashring::sharedMemory(device))
                                                              : 0;
}

int32_t flashring_device_count(void) { return flashring::devices().count; }

const char* flashring_device_cause(void) { return flashring::devices().cause; }
