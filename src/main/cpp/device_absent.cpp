// The device queries of a library that was built without CUDA.
#include "flashring.h"

int32_t flashring_device_count(void) { return 0; }

const char* flashring_device_cause(void) { return "this library was built without CUDA"; }
