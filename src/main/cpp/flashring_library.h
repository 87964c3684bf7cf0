/*
 * FlashRing: what the library is made of, apart from attention (flashring.h, which includes this file and has the rules
 * that hold for every function): statuses, element types, the table of kernels, devices, threads, memory.
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef FLASHRING_LIBRARY_H
#define FLASHRING_LIBRARY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FLASHRING_API __attribute__((visibility("default")))

typedef enum flashring_status {
    FLASHRING_OK = 0,
    FLASHRING_INVALID_ARGUMENT = 1, /* a field breaks a rule; the message names field, value and rule */
    FLASHRING_UNSUPPORTED = 2,      /* valid, but no kernel serves the combination; the message names it */
    FLASHRING_OUT_OF_MEMORY = 3,
    FLASHRING_DEVICE_ERROR = 4,     /* a CUDA call failed, possibly an earlier, asynchronous one */
    FLASHRING_INTERNAL_ERROR = 5
} flashring_status;

/* The message of the last call on this thread that did not return FLASHRING_OK; "" before any. Never null. */
FLASHRING_API const char* flashring_last_error(void);

/* "0.1.0" */
FLASHRING_API const char* flashring_version(void);

typedef enum flashring_dtype {
    FLASHRING_FLOAT64 = 0,
    FLASHRING_FLOAT32 = 1,
    FLASHRING_BFLOAT16 = 2,
    FLASHRING_FLOAT16 = 3
} flashring_dtype;

/* The one table of element types, numbered from 0: "bfloat16", its bytes, and the type that its sums are kept in. For a
   number that is none: null, 0 and -1. */
FLASHRING_API int32_t flashring_dtype_count(void);
FLASHRING_API const char* flashring_dtype_name(int32_t dtype);
FLASHRING_API int32_t flashring_dtype_bytes(int32_t dtype);
FLASHRING_API int32_t flashring_dtype_accumulator(int32_t dtype);

/* Which implementation runs. AUTO takes the first row of the capability table that serves the step. */
typedef enum flashring_kernel {
    FLASHRING_KERNEL_AUTO = 0,
    FLASHRING_KERNEL_REFERENCE = 1, /* the plain formula, for comparison */
    FLASHRING_KERNEL_SIMD128 = 2,   /* baseline x86-64 (SSE2) */
    FLASHRING_KERNEL_AVX2 = 3,
    FLASHRING_KERNEL_AVX512 = 4,
    FLASHRING_KERNEL_AMX = 5,       /* AVX-512 with bfloat16 tile products */
    FLASHRING_KERNEL_MMA = 6,       /* CUDA tensor cores, warp by warp (compute capability 8.0 and newer) */
    FLASHRING_KERNEL_WGMMA = 7,     /* Hopper's warpgroups and copy engine (compute capability 9.0). Takes steps
                                       whose rows of what it copies (q, k, v; acc where it resumes; backward also
                                       dout, dq, dk and dv) start on 16 bytes and hold a whole number of them; of
                                       others AUTO makes MMA */
    FLASHRING_KERNEL_AVX512BF16 = 8, /* AVX-512 with bfloat16 dot products, which take denormals for 0 */
    FLASHRING_KERNEL_DECODE = 9     /* few queries against many keys: forward where q_len * q_heads / kv_heads <= 64.
                                       The query heads of a key head are packed, the keys split over the
                                       multiprocessors of a GPU (compute capability 8.0 and newer), over the cores of
                                       the host (AVX2) */
} flashring_kernel;

/* What a score may be beyond scale * q . k, as bits of flashring_capability.scores. */
typedef enum flashring_score {
    FLASHRING_SOFTCAP = 1,
    FLASHRING_SINKS = 2,
    FLASHRING_ALIBI = 4
} flashring_score;

/* A row of the capability table: what one kernel serves. The only such table; AUTO and the Java plan read it. */
typedef struct flashring_capability {
    uint32_t size;                  /* sizeof(flashring_capability) */
    int32_t kernel;
    int32_t cuda;                   /* 0 host, 1 CUDA */
    int32_t dtype;
    int32_t max_head_dim, max_value_dim;  /* of all passes that it serves */
    int32_t forward, backward;      /* 1 where served */
    int32_t unequal_dims;           /* 1: value_dim may differ from head_dim */
    int32_t available;              /* 1: this machine can run it, and it is not ruled out */
    const char* name;               /* "avx512" */
    const char* requirement;        /* what the machine must have: "AVX-512 F, BW, DQ, VL" */
    int32_t scores;                 /* flashring_score: those that it serves beyond scale * q . k */
    int32_t forward_dim;            /* largest head_dim and value_dim of forward: as above, or more */
    int32_t latent;                 /* 1: forward takes head_dim 576 with value_dim 512, too (MLA) */
} flashring_capability;

FLASHRING_API int32_t flashring_capability_count(void);
FLASHRING_API int32_t flashring_capability_get(int32_t row, flashring_capability* capability);

/* Why the row cannot be chosen, for people; "" where it is available. Valid until this thread asks again; never
   null. */
FLASHRING_API const char* flashring_capability_cause(int32_t row);

/*
 * Rules out every kernel that the table lists before the one of this name, on the side, host or CUDA, that has one:
 * "avx2" leaves avx2, simd128 and reference of the host's and all of CUDA's. "" rules out none. Until the first call
 * the environment variable FLASHRING_MAX_KERNEL says so. A name that no kernel has is refused with the list of names,
 * here and from then on by everything that chooses a kernel. `origin`, which may be null, is who caps, for messages.
 * Workspace that was asked for before may not be enough afterwards.
 */
FLASHRING_API int32_t flashring_set_max_kernel(const char* name, const char* origin);

/* The name of the highest kernel that may be chosen, "" where nothing caps; and who said so. Never null. */
FLASHRING_API const char* flashring_max_kernel(void);
FLASHRING_API const char* flashring_max_kernel_origin(void);

/* CUDA devices that can be used: 0 where there is no driver, no device, or the library was built without CUDA. */
FLASHRING_API int32_t flashring_device_count(void);

/* Why flashring_device_count() is 0; "" when it is not. Never null. */
FLASHRING_API const char* flashring_device_cause(void);

/*
 * Bytes of shared memory a block that the tiles of the MMA kernels are made for on a device: 99, 163 or 227 KB, the
 * most that the device (or FLASHRING_CUDA_SHARED_MEMORY from the environment, such as 99K) allows. 0 where there is no
 * such device, or kernels cannot run on it.
 */
FLASHRING_API int32_t flashring_device_tiles(int32_t device);

/*
 * CPU workers that one call may use, 1 to 1024: what flashring_set_threads() said, or else FLASHRING_THREADS from the
 * environment, or else the processors that this process may use by its affinity and the CPU quota of its control
 * groups. 0 where FLASHRING_THREADS is set to anything else but "": flashring_last_error() says so, and steps on the
 * host are refused.
 */
FLASHRING_API int32_t flashring_threads(void);
FLASHRING_API int32_t flashring_set_threads(int32_t threads);

/*
 * The number of workers where neither of those says one: for a host program that knows better than affinity and quota,
 * such as a JVM told to use fewer processors. Only before the first call that needs workers; later it changes nothing.
 */
FLASHRING_API int32_t flashring_default_threads(int32_t threads);

/* Kernel entries (step, delta, combine, append, merge) since the library was loaded, refused ones included: shows
   whether native code ran. */
FLASHRING_API int64_t flashring_call_count(void);

/*
 * Marks what this thread does until the matching end as the ring's step of that number, for NVIDIA's profilers (NVTX
 * domain "flashring", the number as payload). Entries and kernels mark themselves. Near free where no profiler listens.
 */
FLASHRING_API void flashring_range_begin(int32_t direction, int32_t number);
FLASHRING_API void flashring_range_end(void);

/* 64-byte aligned host memory, not cleared; null when there is none. flashring_host_free(null) does nothing. */
FLASHRING_API void* flashring_host_allocate(int64_t bytes);
FLASHRING_API void flashring_host_free(void* memory);

#ifdef __cplusplus
}
#endif

#endif
