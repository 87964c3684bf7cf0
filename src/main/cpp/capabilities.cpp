#include "capabilities.h"

#include <algorithm>
#include <string>

#include "dtypes.h"
#include "failure.h"
#include "kernel_cap.h"
#include "visibility.h"

namespace flashring {
namespace {

// In order of preference.
constexpr Capability kTable[] = {
    {&kDecode, FLASHRING_FLOAT64},
    {&kDecode, FLASHRING_FLOAT32},
    {&kDecode, FLASHRING_BFLOAT16},
    {&kDecode, FLASHRING_FLOAT16},
    {&kAmx, FLASHRING_BFLOAT16},
    {&kAvx512, FLASHRING_FLOAT64},
    {&kAvx512, FLASHRING_FLOAT32},
    {&kAvx512, FLASHRING_BFLOAT16},
    {&kAvx512, FLASHRING_FLOAT16},
    {&kAvx512Bf16, FLASHRING_BFLOAT16},  // by name: where it was measured, AVX-512's float32 products were faster
    {&kAvx2, FLASHRING_FLOAT64},
    {&kAvx2, FLASHRING_FLOAT32},
    {&kAvx2, FLASHRING_BFLOAT16},
    {&kAvx2, FLASHRING_FLOAT16},
    {&kSimd128, FLASHRING_FLOAT64},
    {&kSimd128, FLASHRING_FLOAT32},
    {&kSimd128, FLASHRING_BFLOAT16},
    {&kSimd128, FLASHRING_FLOAT16},
    {&kReference, FLASHRING_FLOAT64},
    {&kReference, FLASHRING_FLOAT32},
    {&kReference, FLASHRING_BFLOAT16},
    {&kReference, FLASHRING_FLOAT16},
    {&kCudaDecode, FLASHRING_BFLOAT16},
    {&kCudaDecode, FLASHRING_FLOAT16},
    {&kCudaWgmma, FLASHRING_BFLOAT16},
    {&kCudaWgmma, FLASHRING_FLOAT16},
    {&kCudaMma, FLASHRING_BFLOAT16},
    {&kCudaMma, FLASHRING_FLOAT16},
    {&kCudaReference, FLASHRING_FLOAT64},
    {&kCudaReference, FLASHRING_FLOAT32},
    {&kCudaReference, FLASHRING_BFLOAT16},
    {&kCudaReference, FLASHRING_FLOAT16},
};
constexpr int32_t kRows = sizeof kTable / sizeof kTable[0];

const char* kernelName(int32_t id) {
    for (const Capability& row : kTable) {
        if (row.kernel->id == id) {
            return row.kernel->name;
        }
    }
    return "any";
}

// What a step's scores are beyond scaled products; backward, and forward where it resumes, find sinks in lse.
int32_t scoresOf(const flashring_step& step, flashring_direction direction) {
    const bool begins = direction == FLASHRING_FORWARD && !(step.flags & FLASHRING_RESUME);
    return (step.softcap != 0 ? FLASHRING_SOFTCAP : 0) | (step.alibi_slopes ? FLASHRING_ALIBI : 0) |
           (step.sinks && begins ? FLASHRING_SINKS : 0);
}

bool servesDims(const Kernel& kernel, const flashring_step& step, flashring_direction direction) {
    const bool forward = direction == FLASHRING_FORWARD;
    const int64_t most = forward ? kernel.forwardDim : kernel.maxDim;
    return (step.head_dim <= most && step.value_dim <= most) ||
           (forward && kernel.latent && step.head_dim == kLatentKeyDim && step.value_dim == kLatentValueDim);
}

// Why a kernel that this process can use does not run the step; null where it does.
const char* refusal(const Kernel& kernel, const flashring_step& step, flashring_direction direction) {
    thread_local char lack[200];
    if (kernel.runsOn && !kernel.runsOn(step.device)) {
        std::snprintf(lack, sizeof lack, "device = %d lacks %s", step.device, kernel.requirement);
        return lack;
    }
    return unmetBy(kernel, step, direction);
}

}  // namespace

const char* unmetBy(const Kernel& kernel, const flashring_step& step, flashring_direction direction) {
    if (step.kv_dtype != FLASHRING_KV_OF_STEP && direction == FLASHRING_BACKWARD) {
        return "float8 caches are for forward steps";
    }
    if (hasRows(step) && direction == FLASHRING_BACKWARD) {
        return "rows of their own lengths and pages are for forward steps";
    }
    if (step.kv_dtype != FLASHRING_KV_OF_STEP && !kernel.rows) {
        return "it takes no float8 caches";
    }
    if (hasRows(step) && !kernel.rows) {
        return "it takes neither rows of their own lengths nor pages";
    }
    return kernel.unmet ? kernel.unmet(step, direction) : nullptr;
}

int32_t capabilityCount() { return kRows; }

const Capability& capability(int32_t row) { return kTable[row]; }

int32_t highestKernel() {
    int32_t highest = FLASHRING_KERNEL_AUTO;
    for (const Capability& row : kTable) {
        highest = std::max(highest, row.kernel->id);
    }
    return highest;
}

bool serves(const Capability& row, flashring_direction direction) {
    return direction == FLASHRING_FORWARD ? row.kernel->forward : row.kernel->backward;
}

bool serves(const Capability& row, const flashring_step& step, flashring_direction direction) {
    const Kernel& kernel = *row.kernel;
    const bool forward = direction == FLASHRING_FORWARD;
    // Asked for by name, a kernel without rows says so; of all that lack them the last would.
    if (forward && hasRows(step) && !kernel.rows && step.kernel == FLASHRING_KERNEL_AUTO) {
        return false;
    }
    return kernel.cuda == (step.device != FLASHRING_HOST) &&
           (step.kernel == FLASHRING_KERNEL_AUTO || kernel.id == step.kernel) && row.dtype == step.dtype &&
           serves(row, direction) && servesDims(kernel, step, direction) &&
           !(scoresOf(step, direction) & ~kernel.scores);
}

bool available(int32_t row) {
    requireKnownCap();
    return kTable[row].kernel->available() && !ruledOut(row);
}

const char* unavailability(int32_t row) {
    thread_local char cause[200];
    const Kernel& kernel = *kTable[row].kernel;
    if (available(row)) {
        return "";
    }
    if (kernel.available()) {
        std::snprintf(cause, sizeof cause, "ruled out by %s = %s", capOrigin(), capName());
    } else if (kernel.cuda && flashring_device_count() == 0) {
        std::snprintf(cause, sizeof cause, "%s", flashring_device_cause());
    } else {
        std::snprintf(cause, sizeof cause, "this machine lacks %s", kernel.requirement);
    }
    return cause;
}

void requireDevice(int32_t device) {
    const int32_t count = flashring_device_count();
    if (device >= count) {
        const char* const cause = flashring_device_cause();
        fail(FLASHRING_UNSUPPORTED, "device = %d: %s", device,
             *cause ? cause : "there is no CUDA device of this number");
    }
}

// What the kernel serves comes first, what this process can use last: a step is refused with the same words everywhere.
int32_t select(const flashring_step& step, flashring_direction direction) {
    requireKnownCap();
    if (!servesDims(kReference, step, direction)) {
        fail(FLASHRING_UNSUPPORTED,
             "head_dim = %lld, value_dim = %lld: kernels serve up to %lld, and forward %lld, %lld",
             static_cast<long long>(step.head_dim), static_cast<long long>(step.value_dim),
             static_cast<long long>(kMaxHeadDim), static_cast<long long>(kLatentKeyDim),
             static_cast<long long>(kLatentValueDim));
    }
    int32_t unavailable = -1, refusing = -1;
    std::string why;
    for (int32_t i = 0; i < kRows; ++i) {
        if (!serves(kTable[i], step, direction)) {
            continue;
        }
        if (!available(i)) {
            unavailable = i;
            continue;
        }
        requireDevice(step.device);
        const char* const lack = refusal(*kTable[i].kernel, step, direction);
        if (!lack) {
            return i;
        }
        refusing = i;
        why = lack;
    }
    if (refusing >= 0) {
        fail(FLASHRING_UNSUPPORTED, "kernel = %d (%s): %s", step.kernel, kTable[refusing].kernel->name, why.c_str());
    }
    if (unavailable >= 0) {
        requireDevice(step.device);
        fail(FLASHRING_UNSUPPORTED, "kernel = %d (%s): %s", step.kernel, kTable[unavailable].kernel->name,
             unavailability(unavailable));
    }
    const char* const pass = direction == FLASHRING_FORWARD ? "forward" : "backward";
    const int32_t scores = scoresOf(step, direction);
    fail(FLASHRING_UNSUPPORTED,
         "no kernel serves kernel = %d (%s), dtype = %s, head_dim = %lld, value_dim = %lld, %s%s%s%s%s%s on %s",
         step.kernel, kernelName(step.kernel), dtypeName(step.dtype), static_cast<long long>(step.head_dim),
         static_cast<long long>(step.value_dim),
         !hasRows(step)                           ? ""
         : step.kv_dtype == FLASHRING_KV_OF_STEP ? "rows of their own lengths or pages, "
                                                  : "a float8 cache, ",
         scores & FLASHRING_SOFTCAP ? "softcap, " : "",
         scores & FLASHRING_SINKS ? "sinks, " : "", scores & FLASHRING_ALIBI ? "alibi_slopes, " : "",
         step.deterministic && direction == FLASHRING_BACKWARD ? "deterministic " : "", pass,
         step.device == FLASHRING_HOST ? "the host" : "CUDA");
}

}  // namespace flashring
