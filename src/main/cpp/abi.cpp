// The entry points of flashring.h: count, check, dispatch, and turn failures into a status and a message.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

#include "append.h"
#include "capabilities.h"
#include "checks.h"
#include "dtypes.h"
#include "failure.h"
#include "intervals.h"
#include "kernel_cap.h"
#include "memory.h"
#include "nvtx.h"
#include "rowwise.h"
#include "threads.h"
#include "validate.h"
#include "validate_rows.h"
#include "visibility.h"
#include "workspace.h"

namespace flashring {
namespace {

thread_local char lastError[sizeof Failure::message] = "";
std::atomic<int64_t> calls{0};

template <class Body>
int32_t guarded(const Body& body) {
    flashring_status status;
    try {
        body();
        return FLASHRING_OK;
    } catch (const Failure& failure) {
        std::snprintf(lastError, sizeof lastError, "%s", failure.message);
        status = failure.status;
    } catch (const std::bad_alloc&) {
        std::snprintf(lastError, sizeof lastError, "out of host memory");
        status = FLASHRING_OUT_OF_MEMORY;
    } catch (const std::exception& failure) {
        std::snprintf(lastError, sizeof lastError, "internal error: %s", failure.what());
        status = FLASHRING_INTERNAL_ERROR;
    } catch (...) {
        std::snprintf(lastError, sizeof lastError, "internal error");
        status = FLASHRING_INTERNAL_ERROR;
    }
    return status;
}

template <class Pointer>
void requireNotNull(const char* name, Pointer pointer) {
    if (!pointer) {
        fail(FLASHRING_INVALID_ARGUMENT, "%s must not be null", name);
    }
}

void requireDirection(int32_t direction) {
    if (direction != FLASHRING_FORWARD && direction != FLASHRING_BACKWARD) {
        fail(FLASHRING_INVALID_ARGUMENT, "direction = %d must be 0 (forward) or 1 (backward)", direction);
    }
}

// So that a number of threads that cannot be is refused when work is planned, not in the midst of it.
void requireThreads(const flashring_step& step) {
    if (step.device == FLASHRING_HOST) {
        threadLimit();
    }
}

void attend(const flashring_step* given, flashring_direction direction) {
    const Range entry(direction == FLASHRING_FORWARD ? "forward step" : "backward step");
    calls.fetch_add(1, std::memory_order_relaxed);
    flashring_step own;
    const flashring_step& step = readStep(given, own);
    const Kernel& kernel = *capability(select(step, direction)).kernel;
    direction == FLASHRING_FORWARD ? checkForward(step) : checkBackward(step);
    checkWorkspace(step, workspaceBytesOf(kernel, step, direction));
    const Range running(kernel.name);
    char* const workspace = static_cast<char*>(step.workspace);
    const auto run = direction == FLASHRING_FORWARD ? kernel.forward : kernel.backward;
    if (kernel.cuda) {
        return run({step, nullptr, nullptr, workspace});
    }
    int64_t* const lo = reinterpret_cast<int64_t*>(workspace);
    int64_t* const hi = reinterpret_cast<int64_t*>(workspace + intervalBytes(step) / 2);
    visibleKeys(step, lo, hi);
    checkPages(step, lo, hi);
    Problem problem{step, lo, hi, workspace + intervalBytes(step) + positionBytes(step),
                    hasRows(step) ? step.q_len : 0};
    if (step.alibi_slopes) {
        int64_t* const q = reinterpret_cast<int64_t*>(workspace + intervalBytes(step));
        int64_t* const kv = q + step.q_len;
        globalPositions(step.q_positions, q);
        globalPositions(step.kv_positions, kv);
        problem.qPositions = q;
        problem.kvPositions = kv;
    }
    run(problem);
}

}  // namespace
}  // namespace flashring

using namespace flashring;

int32_t flashring_forward_step(const flashring_step* step) {
    return guarded([&] { attend(step, FLASHRING_FORWARD); });
}

int32_t flashring_backward_step(const flashring_step* step) {
    return guarded([&] { attend(step, FLASHRING_BACKWARD); });
}

int32_t flashring_delta(const flashring_step* given) {
    return guarded([&] {
        const Range entry("delta");
        calls.fetch_add(1, std::memory_order_relaxed);
        flashring_step own;
        const flashring_step& step = readStep(given, own);
        requireDevice(step.device);
        checkDelta(step);
        step.device == FLASHRING_HOST ? delta(step) : deltaOnDevice(step);
    });
}

int32_t flashring_combine(const flashring_combine_args* given) {
    return guarded([&] {
        const Range entry("combine");
        calls.fetch_add(1, std::memory_order_relaxed);
        flashring_combine_args own;
        const flashring_combine_args& args = readCombine(given, own);
        requireDevice(args.device);
        args.device == FLASHRING_HOST ? combine(args) : combineOnDevice(args);
    });
}

int32_t flashring_merge(const flashring_merge_args* given) {
    return guarded([&] {
        const Range entry("merge");
        calls.fetch_add(1, std::memory_order_relaxed);
        flashring_merge_args own;
        const flashring_merge_args& args = readMerge(given, own);
        requireDevice(args.device);
        args.device == FLASHRING_HOST ? merge(args) : mergeOnDevice(args);
    });
}

int32_t flashring_append(const flashring_append_args* given) {
    return guarded([&] {
        const Range entry("append");
        calls.fetch_add(1, std::memory_order_relaxed);
        flashring_append_args own;
        const flashring_append_args& args = readAppend(given, own);
        requireDevice(args.device);
        args.device == FLASHRING_HOST ? append(args) : appendOnDevice(args);
    });
}

int32_t flashring_workspace_bytes(const flashring_step* given, int32_t direction, int64_t* bytes) {
    return guarded([&] {
        requireNotNull("bytes", bytes);
        requireDirection(direction);
        flashring_step own;
        const flashring_step& step = readStep(given, own);
        requireThreads(step);
        const auto pass = static_cast<flashring_direction>(direction);
        select(withoutAddresses(step), pass);
        *bytes = mostWorkspaceBytes(step, pass);
    });
}

int32_t flashring_select(const flashring_step* given, int32_t direction, int32_t* selected) {
    return guarded([&] {
        requireNotNull("row", selected);
        requireDirection(direction);
        flashring_step own;
        const flashring_step& step = readStep(given, own);
        requireThreads(step);
        *selected = select(step, static_cast<flashring_direction>(direction));
    });
}

int32_t flashring_dtype_count(void) { return kDtypeCount; }

const char* flashring_dtype_name(int32_t dtype) { return isDtype(dtype) ? dtypeName(dtype) : nullptr; }

int32_t flashring_dtype_bytes(int32_t dtype) { return isDtype(dtype) ? kDtypes[dtype].bytes : 0; }

int32_t flashring_dtype_accumulator(int32_t dtype) { return isDtype(dtype) ? accumulatorType(dtype) : -1; }

int32_t flashring_capability_count(void) { return capabilityCount(); }

int32_t flashring_capability_get(int32_t index, flashring_capability* result) {
    return guarded([&] {
        requireNotNull("capability", result);
        const uint32_t size = result->size;
        checkSize("flashring_capability", size, offsetof(flashring_capability, scores));
        if (index < 0 || index >= capabilityCount()) {
            fail(FLASHRING_INVALID_ARGUMENT, "row = %d must be from 0 to %d", index, capabilityCount() - 1);
        }
        const Capability& entry = capability(index);
        const auto maxDim = static_cast<int32_t>(entry.kernel->maxDim);
        const flashring_capability known{size,
                                         entry.kernel->id,
                                         entry.kernel->cuda,
                                         entry.dtype,
                                         maxDim,
                                         maxDim,
                                         serves(entry, FLASHRING_FORWARD),
                                         serves(entry, FLASHRING_BACKWARD),
                                         1,
                                         available(index),
                                         entry.kernel->name,
                                         entry.kernel->requirement,
                                         entry.kernel->scores,
                                         static_cast<int32_t>(entry.kernel->forwardDim),
                                         entry.kernel->latent};
        std::memset(static_cast<void*>(result), 0, size);  // what later releases know
        std::memcpy(static_cast<void*>(result), &known, size < sizeof known ? size : sizeof known);
    });
}

const char* flashring_capability_cause(int32_t row) {
    const char* cause = "";
    const auto ask = [&] {
        if (row >= 0 && row < capabilityCount()) {
            cause = unavailability(row);
        }
    };
    thread_local char failed[sizeof lastError];
    if (guarded(ask) == FLASHRING_OK) {
        return cause;
    }
    std::snprintf(failed, sizeof failed, "%s", lastError);
    return failed;
}

int32_t flashring_set_max_kernel(const char* name, const char* origin) {
    return guarded([&] {
        requireNotNull("name", name);
        capKernels(name, origin ? origin : "flashring_set_max_kernel");
        requireKnownCap();
    });
}

const char* flashring_max_kernel(void) {
    const char* name = "";
    guarded([&] { name = capName(); });
    return name;
}

const char* flashring_max_kernel_origin(void) {
    const char* origin = "";
    guarded([&] { origin = capOrigin(); });
    return origin;
}

void flashring_range_begin(int32_t direction, int32_t number) {
    beginRange(direction == FLASHRING_FORWARD ? "ring step, forward" : "ring step, backward", number);
}

void flashring_range_end(void) { endRange(); }

const char* flashring_last_error(void) { return lastError; }

const char* flashring_version(void) { return FLASHRING_VERSION; }

int32_t flashring_threads(void) {
    int32_t threads = 0;
    guarded([&] { threads = threadLimit(); });
    return threads;
}

int32_t flashring_set_threads(int32_t threads) {
    return guarded([&] { setThreadLimit(threads); });
}

int32_t flashring_default_threads(int32_t threads) {
    return guarded([&] { defaultThreadLimit(threads); });
}

int64_t flashring_call_count(void) { return calls.load(std::memory_order_relaxed); }

void* flashring_host_allocate(int64_t bytes) { return allocate(bytes); }

void flashring_host_free(void* memory) { std::free(memory); }
