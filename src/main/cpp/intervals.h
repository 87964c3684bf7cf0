// From positions and mask to the local keys that each local query sees.
#ifndef FLASHRING_INTERVALS_H
#define FLASHRING_INTERVALS_H

#include "flashring.h"

namespace flashring {

// Writes lo[i] <= hi[i] <= kv_len for every local query i of a checked step; neither ever decreases with i.
// Time O(q_len + documents + ranges). Where batch rows have lengths of their own, of each row one after the other.
void visibleKeys(const flashring_step& step, int64_t* lo /* [q_len] */, int64_t* hi /* [q_len] */);

// Writes the global position of each local token.
void globalPositions(const flashring_positions& positions, int64_t* to);

}  // namespace flashring

#endif
