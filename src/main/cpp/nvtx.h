// Named ranges for NVIDIA's profilers, in a domain of our own; nothing where the library was built without nvtx3's
// headers, and a branch on a null pointer where no tool listens.
#ifndef FLASHRING_NVTX_H
#define FLASHRING_NVTX_H

#include <atomic>
#include <cstdint>

#ifdef FLASHRING_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace flashring {

#ifdef FLASHRING_NVTX
inline nvtxDomainHandle_t nvtxDomain() {
    static std::atomic<nvtxDomainHandle_t> known{nullptr};  // no lock that might stay shut in a child of fork
    nvtxDomainHandle_t domain = known.load(std::memory_order_acquire);
    if (!domain) {
        domain = nvtxDomainCreateA("flashring");  // null where no tool listens
        known.store(domain, std::memory_order_release);
    }
    return domain;
}

// `name` outlives the process's tools: a literal.
inline void beginRange(const char* name, int32_t payload = 0) {
    nvtxEventAttributes_t range{};
    range.version = NVTX_VERSION;
    range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    range.messageType = NVTX_MESSAGE_TYPE_ASCII;
    range.message.ascii = name;
    range.payloadType = NVTX_PAYLOAD_TYPE_INT32;
    range.payload.iValue = payload;
    nvtxDomainRangePushEx(nvtxDomain(), &range);
}

inline void endRange() { nvtxDomainRangePop(nvtxDomain()); }
#else
inline void beginRange(const char*, int32_t = 0) {}
inline void endRange() {}
#endif

class Range {
public:
    explicit Range(const char* name) { beginRange(name); }
    ~Range() { endRange(); }
    Range(const Range&) = delete;
    Range& operator=(const Range&) = delete;
};

}  // namespace flashring

#endif
