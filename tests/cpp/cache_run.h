// Runs a cache_case.h problem on the host.
#ifndef FLASHRING_TESTS_CACHE_RUN_H
#define FLASHRING_TESTS_CACHE_RUN_H

#include "cache_case.h"

inline void require(int32_t status, const CacheCase& c) {
    CHECK(status == FLASHRING_OK, "%s: %s", c.describe().c_str(), flashring_last_error());
}

// In a workspace whose bytes are `filled`.
inline void run(flashring_step& raw, const CacheCase& c, char filled = 0x5a) {
    int64_t bytes = 0;
    require(flashring_workspace_bytes(&raw, FLASHRING_FORWARD, &bytes), c);
    const std::unique_ptr<char, void (*)(char*)> workspace(static_cast<char*>(flashring_host_allocate(bytes + 64)),
                                                           [](char* memory) { flashring_host_free(memory); });
    std::memset(workspace.get(), filled, static_cast<size_t>(bytes + 64));
    raw.workspace = workspace.get();
    raw.workspace_bytes = bytes;
    require(flashring_forward_step(&raw), c);
    for (int64_t i = bytes; i < bytes + 64; ++i)
        CHECK(workspace.get()[i] == filled, "%s: wrote past the workspace", c.describe().c_str());
}

inline Outcome forward(CacheCase& c, Cache how, int32_t kernel, uint64_t seed = 1, const Outcome* earlier = nullptr,
                       double spare = NAN) {
    Stored cache(c, how, seed, spare);
    Outcome r = earlier ? *earlier : Outcome(c);
    flashring_step raw = stepOf(c, cache, r, kernel, FLASHRING_FINISH | (earlier ? FLASHRING_RESUME : 0));
    run(raw, c);
    CHECK(r.intact(), "%s: wrote outside a tensor", c.describe().c_str());
    return r;
}

inline void expectClose(const CacheCase& c, const char* what, const Outcome& actual, const Outcome& expected) {
    const bool wide = c.dtype == FLASHRING_FLOAT64;
    const double state = wide ? 1e-12 : 2e-5, out = c.dtype == FLASHRING_BFLOAT16  ? 8e-3
                                                    : c.dtype == FLASHRING_FLOAT16 ? 1e-3
                                                                                   : state;
    const std::string context = std::string(what) + " " + c.describe();
    checkClose(context, "out", actual.out, expected.out, out);
    checkClose(context, "acc", actual.acc, expected.acc, state);
    checkClose(context, "lse", actual.lse, expected.lse, state);
}

#endif
