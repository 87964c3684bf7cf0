// The checks of batch rows of their own lengths, and of caches in pages. As those of validate.h.
#ifndef FLASHRING_VALIDATE_ROWS_H
#define FLASHRING_VALIDATE_ROWS_H

#include "flashring.h"

namespace flashring {

// What k and v hold, beside the dtype of the rest.
void requireKvDtype(int32_t kvDtype, int32_t dtype);

// Of a step that hasRows(): lengths and what goes with them, k and v. Values are read on the host alone.
void checkRows(const flashring_step& step);

// The entries of the pages that a step on the host reads, once it is known which keys are seen: see Problem.
void checkPages(const flashring_step& step, const int64_t* lo, const int64_t* hi);

// The arguments as this release knows them, all checked; on the host that every token has a place, too.
const flashring_append_args& readAppend(const flashring_append_args* given, flashring_append_args& own);

}  // namespace flashring

#endif
