// The device side of a library that was built without CUDA: no device, hence nothing that could run there.
#include "capabilities.h"
#include "failure.h"
#include "rowwise.h"

namespace flashring {
namespace {

[[noreturn]] void refuse() { fail(FLASHRING_UNSUPPORTED, "%s", flashring_device_cause()); }

constexpr Kernel absent(int32_t id, const char* name, const char* requirement) {
    return {id, name, requirement, [] { return false; }, [](const Problem&) { refuse(); },
            [](const Problem&) { refuse(); }, nullptr, true};
}

constexpr Kernel decodeAlone(Kernel kernel) {
    kernel.backward = nullptr;
    kernel.rows = true;
    return kernel;
}

}  // namespace

const Kernel kCudaDecode = decodeAlone(absent(FLASHRING_KERNEL_DECODE, "decode", kCudaRequirement)).serving(kAllScores);
const Kernel kCudaWgmma = absent(FLASHRING_KERNEL_WGMMA, "wgmma", kHopperRequirement).serving(kAllScores);
const Kernel kCudaMma = absent(FLASHRING_KERNEL_MMA, "mma", kCudaRequirement).serving(kAllScores).wideForward();
const Kernel kCudaReference =
    absent(FLASHRING_KERNEL_REFERENCE, "reference", kCudaRequirement).serving(kAllScores).forAnyDims();

void deltaOnDevice(const flashring_step&) { refuse(); }
void combineOnDevice(const flashring_combine_args&) { refuse(); }
void mergeOnDevice(const flashring_merge_args&) { refuse(); }
void appendOnDevice(const flashring_append_args&) { refuse(); }

}  // namespace flashring

int32_t flashring_device_tiles(int32_t) { return 0; }

int32_t flashring_device_count(void) { return 0; }

const char* flashring_device_cause(void) { return "this library was built without CUDA"; }
