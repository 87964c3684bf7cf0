#include "kernel_cap.h"

#include <strings.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "capabilities.h"
#include "failure.h"

namespace flashring {
namespace {

constexpr char kVariable[] = "FLASHRING_MAX_KERNEL";

struct Cap {
    char name[40], origin[64];
    bool known = false;
    int32_t first[2] = {0, 0};  // of host and CUDA rows: those before it are ruled out
    const Cap* earlier;         // kept, as another thread may be reading it

    Cap(const char* kernel, const char* source, const Cap* before) : earlier(before) {
        std::snprintf(name, sizeof name, "%s", kernel);
        std::snprintf(origin, sizeof origin, "%s", source);
        for (int32_t row = capabilityCount() - 1; row >= 0; --row) {
            const Kernel& candidate = *capability(row).kernel;
            if (strcasecmp(name, candidate.name) == 0) {
                known = true;
                first[candidate.cuda] = row;
            }
        }
    }
};

// Null until somebody asks. Not a static of a function: its lock might stay shut in a child of fork.
std::atomic<const Cap*> latest{nullptr};

std::atomic<const Cap*>& current() {
    if (!latest.load(std::memory_order_acquire)) {
        const char* const name = std::getenv(kVariable);
        const Cap* const fresh = new Cap(name ? name : "", kVariable, nullptr);
        const Cap* none = nullptr;
        if (!latest.compare_exchange_strong(none, fresh)) {
            delete fresh;
        }
    }
    return latest;
}

bool firstOfItsName(int32_t row) {
    for (int32_t earlier = 0; earlier < row; ++earlier) {
        if (std::strcmp(capability(earlier).kernel->name, capability(row).kernel->name) == 0) {
            return false;
        }
    }
    return true;
}

const Cap& cap() { return *current().load(std::memory_order_acquire); }

}  // namespace

void capKernels(const char* name, const char* origin) {
    Cap* const next = new Cap(name, origin, &cap());
    while (!current().compare_exchange_weak(next->earlier, next, std::memory_order_acq_rel)) {
    }
}

void requireKnownCap() {
    const Cap& set = cap();
    if (set.known || !*set.name) {
        return;
    }
    char names[200] = "";
    for (int32_t row = 0; row < capabilityCount(); ++row) {
        if (firstOfItsName(row)) {
            const size_t used = std::strlen(names);
            std::snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", capability(row).kernel->name);
        }
    }
    fail(FLASHRING_INVALID_ARGUMENT, "%s = %s must be one of %s", set.origin, set.name, names);
}

bool ruledOut(int32_t row) { return row < cap().first[capability(row).kernel->cuda]; }

const char* capName() { return cap().name; }

const char* capOrigin() { return cap().origin; }

}  // namespace flashring
