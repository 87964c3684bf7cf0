// Which CUDA devices this process can use. Asked once; the CUDA runtime is linked statically and finds the driver itself.
#include <cuda_runtime_api.h>

#include <cstdio>

#include "flashring.h"

namespace {

struct Devices {
    int count = 0;
    char cause[200] = "";

    Devices() {
        int driver = 0;
        if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
            std::snprintf(cause, sizeof cause, "no NVIDIA driver (libcuda.so.1) was found");
            return;
        }
        const cudaError_t error = cudaGetDeviceCount(&count);
        if (error != cudaSuccess) {
            count = 0;
            std::snprintf(cause, sizeof cause, "%s (driver for CUDA %d.%d)", cudaGetErrorString(error), driver / 1000, driver % 1000 / 10);
        } else if (count == 0) {
            std::snprintf(cause, sizeof cause, "there is no CUDA device");
        }
    }
};

const Devices& devices() {
    static const Devices found;
    return found;
}

}  // namespace

int32_t flashring_device_count(void) { return devices().count; }

const char* flashring_device_cause(void) { return devices().cause; }
