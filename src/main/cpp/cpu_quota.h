// The processor time that Linux control groups grant this process.
#ifndef FLASHRING_CPU_QUOTA_H
#define FLASHRING_CPU_QUOTA_H

#include <stdint.h>

namespace flashring {

// Whole processors under the tightest quota of this process's control group and the groups around it (version 1 and 2),
// rounded up; 0 where there is none. `root` is the folder that holds proc and the groups: "" but in tests.
int32_t quotaProcessors(const char* root);

}  // namespace flashring

#endif
