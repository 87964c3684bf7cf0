// Tests run again under caps, so that what they check does not depend on the machine: see FLASHRING_MAX_KERNEL.
#ifndef FLASHRING_TESTS_CAPS_H
#define FLASHRING_TESTS_CAPS_H

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "flashring.h"

// "" on the machine's own kernels.
inline const char* cap() {
    const char* const name = std::getenv("FLASHRING_MAX_KERNEL");
    return name ? name : "";
}

// Says which host kernels do not run, and why. Ends the test as skipped where a cap takes nothing from this machine.
inline void sayWhatRuns() {
    bool ruledOut = false;
    const char* last = "";
    for (int32_t i = 0; i < flashring_capability_count(); ++i) {
        flashring_capability row{};
        row.size = sizeof row;
        if (flashring_capability_get(i, &row) != FLASHRING_OK || row.cuda || row.available) continue;
        const char* const cause = flashring_capability_cause(i);
        ruledOut = ruledOut || (row.backward && std::strstr(cause, "ruled out"));  // every cap takes the decode kernel
        if (std::strcmp(last, row.name) != 0) std::printf("not run: %s, %s\n", row.name, cause);
        last = row.name;
    }
    if (*cap() && !ruledOut) {
        std::printf("skipped: this machine runs nothing above %s\n", cap());
        std::exit(77);
    }
}

#endif
