// Runs a cache_case.h problem on a CUDA device.
#ifndef FLASHRING_TESTS_DEVICE_CACHE_H
#define FLASHRING_TESTS_DEVICE_CACHE_H

#include "cache_case.h"
#include "cuda/device_case.h"

// The device's copies of a case, and a step over them. What is in the copies may change between its calls.
class DeviceCache {
public:
    DeviceCache(CacheCase& c, Cache how, uint64_t seed, cudaStream_t stream = nullptr)
        : case_(c), stored_(c, how, seed), result_(c), stream_(stream) {
        raw = stepOf(c, stored_, result_, FLASHRING_KERNEL_DECODE, FLASHRING_FINISH);
        raw.device = 0;
        raw.stream = stream;
        const std::ptrdiff_t keys = move(raw.k, stored_.k), values = move(raw.v, stored_.v);
        move(raw.q, c.q);
        move(raw.out, result_.out);
        move(raw.acc, result_.acc);
        move(raw.lse, result_.lse);
        // steps are of 16-bit elements
        if (raw.sinks) raw.sinks = upload(std::vector<float>(c.sinks.begin(), c.sinks.end()));
        raw.kv_lengths = upload(c.lengths);
        raw.kv_begins = upload(c.begins);
        raw.q_lengths = upload(c.queryLengths);
        if (how == Cache::Numbered) raw.page_table = upload(stored_.table);
        if (how == Cache::Addressed) {
            raw.k_pages = upload(moved(stored_.keyPages, keys));
            raw.v_pages = upload(moved(stored_.valuePages, values));
        }
        place();
    }

    // Workspace for the step as it is now.
    void place() {
        require(flashring_workspace_bytes(&raw, FLASHRING_FORWARD, &raw.workspace_bytes));
        const std::vector<char> canary(static_cast<size_t>(raw.workspace_bytes) + kFence, 0x5a);
        raw.workspace = upload(canary);
    }

    flashring_step raw{};

    void queue() { require(flashring_forward_step(&raw)); }

    Outcome results() {
        CUDA(cudaStreamSynchronize(stream_));
        for (const auto& [buffer, device] : mirrors_) {
            CUDA(cudaMemcpy(buffer->memory(), device, buffer->memoryBytes(), cudaMemcpyDeviceToHost));
        }
        std::vector<char> fence(kFence);
        CUDA(cudaMemcpy(fence.data(), static_cast<char*>(raw.workspace) + raw.workspace_bytes, kFence,
                        cudaMemcpyDeviceToHost));
        CHECK(std::all_of(fence.begin(), fence.end(), [](char byte) { return byte == 0x5a; }),
              "%s: wrote past the workspace", case_.describe().c_str());
        CHECK(result_.intact(), "%s: wrote outside a tensor", case_.describe().c_str());
        return result_;
    }

    Stored& stored() {
        results();
        return stored_;
    }

    // A device copy of numbers, or null of none.
    template <class T>
    T* upload(const std::vector<T>& numbers) {
        if (numbers.empty()) return nullptr;
        kept_.emplace_back(numbers.size() * sizeof(T));
        CUDA(cudaMemcpy(kept_.back().data(), numbers.data(), numbers.size() * sizeof(T), cudaMemcpyHostToDevice));
        CUDA(cudaStreamSynchronize(nullptr));
        return reinterpret_cast<T*>(kept_.back().data());
    }

    // Moves a tensor of a buffer to a device copy of it, which results() brings back. Returns by how much addresses in
    // it move.
    std::ptrdiff_t move(flashring_tensor& tensor, Buffer& buffer) {
        kept_.emplace_back(buffer.memoryBytes());
        CUDA(cudaMemcpy(kept_.back().data(), buffer.memory(), buffer.memoryBytes(), cudaMemcpyHostToDevice));
        CUDA(cudaStreamSynchronize(nullptr));
        mirrors_.push_back({&buffer, kept_.back().data()});
        const std::ptrdiff_t by = kept_.back().data() - buffer.memory();
        if (tensor.data) tensor.data = static_cast<char*>(tensor.data) + by;
        return by;
    }

private:
    static constexpr size_t kFence = 256;

    static std::vector<const void*> moved(std::vector<const void*> pages, std::ptrdiff_t by) {
        for (const void*& page : pages) {
            if (page != reinterpret_cast<const void*>(uintptr_t{1})) page = static_cast<const char*>(page) + by;
        }
        return pages;
    }

    void require(int32_t status) {
        CHECK(status == FLASHRING_OK, "%s: %s", case_.describe().c_str(), flashring_last_error());
    }

    CacheCase& case_;
    Stored stored_;
    Outcome result_;
    cudaStream_t stream_;
    std::vector<DeviceMemory> kept_;
    std::vector<std::pair<Buffer*, char*>> mirrors_;
};

#endif
