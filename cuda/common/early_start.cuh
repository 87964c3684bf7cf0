// Programmatic dependent launch as a kernel sees it (Start::Early in device.h); compute capability 9.0 and newer.
#ifndef FLASHRING_CUDA_COMMON_EARLY_START_CUH
#define FLASHRING_CUDA_COMMON_EARLY_START_CUH

namespace flashring {

// Waits until the kernel before this one in the stream has ended and its writes can be seen.
__device__ inline void waitForEarlierKernel() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// Lets the next kernel in the stream, if it starts early, take multiprocessors as this one's blocks leave them.
__device__ inline void letNextKernelStart() { asm volatile("griddepcontrol.launch_dependents;"); }

}  // namespace flashring

#endif
