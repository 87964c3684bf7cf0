// Caps on the kernels: what they rule out and leave, who says so, and names that no kernel has.
#include <map>

#include "attention_case.h"

namespace {

std::vector<flashring_capability> table() {
    std::vector<flashring_capability> rows;
    for (int32_t i = 0; i < flashring_capability_count(); ++i) {
        rows.push_back({});
        rows.back().size = sizeof rows.back();
        CHECK(flashring_capability_get(i, &rows.back()) == FLASHRING_OK, "%s", flashring_last_error());
    }
    return rows;
}

flashring_step stepOf(int32_t dtype, int32_t kernel) {
    flashring_step step{};
    step.size = sizeof step;
    step.device = FLASHRING_HOST;
    step.dtype = dtype;
    step.kernel = kernel;
    step.batch = step.q_heads = step.kv_heads = 1;
    step.q_len = step.kv_len = 8;
    step.head_dim = step.value_dim = 64;
    step.softmax_scale = 1;
    return step;
}

void expectRefused(int32_t status, int32_t expected, const std::string& says) {
    CHECK(status == expected, "\"%s\": status %d instead of %d", says.c_str(), status, expected);
    CHECK(std::strstr(flashring_last_error(), says.c_str()), "\"%s\" is not in \"%s\"", says.c_str(),
          flashring_last_error());
}

// A name from the environment that no kernel has, until the caller sets another.
void unknownNames() {
    setenv("FLASHRING_MAX_KERNEL", "sse9", 1);
    const auto expectEverywhere = [](const char* says) {
        const flashring_step step = stepOf(FLASHRING_FLOAT32, FLASHRING_KERNEL_AUTO);
        flashring_capability row{};
        row.size = sizeof row;
        int32_t selected;
        int64_t bytes;
        expectRefused(flashring_select(&step, FLASHRING_FORWARD, &selected), FLASHRING_INVALID_ARGUMENT, says);
        expectRefused(flashring_workspace_bytes(&step, FLASHRING_BACKWARD, &bytes), FLASHRING_INVALID_ARGUMENT, says);
        expectRefused(flashring_forward_step(&step), FLASHRING_INVALID_ARGUMENT, says);
        expectRefused(flashring_backward_step(&step), FLASHRING_INVALID_ARGUMENT, says);
        expectRefused(flashring_capability_get(0, &row), FLASHRING_INVALID_ARGUMENT, says);
        CHECK(std::strstr(flashring_capability_cause(0), says), "cause: %s", flashring_capability_cause(0));
    };
    expectEverywhere("FLASHRING_MAX_KERNEL = sse9 must be one of decode, amx, ");
    expectEverywhere("avx2, simd128, reference, wgmma, mma");
    expectRefused(flashring_set_max_kernel("avx", "a test"), FLASHRING_INVALID_ARGUMENT,
                  "a test = avx must be one of decode, amx, ");
    expectEverywhere("a test = avx must be one of decode, amx, ");
    expectRefused(flashring_set_max_kernel(nullptr, nullptr), FLASHRING_INVALID_ARGUMENT, "name must not be null");
}

// Under the cap of the row `at`, those before it on its side are unavailable; all others are what they were.
long capAt(const std::vector<flashring_capability>& free, size_t at, const std::string& name) {
    CHECK(flashring_set_max_kernel(name.c_str(), "a test") == FLASHRING_OK, "%s", flashring_last_error());
    CHECK(flashring_max_kernel() == name && std::string(flashring_max_kernel_origin()) == "a test", "%s by %s",
          flashring_max_kernel(), flashring_max_kernel_origin());
    std::map<int32_t, bool> chosen;  // dtypes whose AUTO was looked at
    const std::vector<flashring_capability> rows = table();
    for (size_t i = 0; i < rows.size(); ++i) {
        const flashring_capability& row = rows[i];
        const bool sameName = std::strcmp(free[i].name, free[at].name) == 0;
        bool below = true;  // or the capped kernel itself, or of a side that has none of the name
        for (size_t j = i + 1; j < rows.size(); ++j) {
            below = below && !(rows[j].cuda == row.cuda && std::strcmp(rows[j].name, free[at].name) == 0 && !sameName);
        }
        const std::string cause = flashring_capability_cause(static_cast<int32_t>(i));
        CHECK(row.available == (free[i].available && below), "%s under %s: available = %d", row.name, name.c_str(),
              row.available);
        CHECK(cause.empty() == (row.available == 1), "%s under %s: \"%s\"", row.name, name.c_str(), cause.c_str());
        if (row.cuda) continue;
        int32_t selected = -1;
        const flashring_step step = stepOf(row.dtype, row.kernel);
        const int32_t status = flashring_select(&step, FLASHRING_FORWARD, &selected);
        if (row.available) {
            CHECK(status == FLASHRING_OK && selected == static_cast<int32_t>(i), "%s under %s: %s", row.name,
                  name.c_str(), flashring_last_error());
            if (!chosen[row.dtype] && row.backward) {
                const flashring_step any = stepOf(row.dtype, FLASHRING_KERNEL_AUTO);
                CHECK(flashring_select(&any, FLASHRING_BACKWARD, &selected) == FLASHRING_OK &&
                          selected == static_cast<int32_t>(i),
                      "AUTO under %s takes row %d", name.c_str(), selected);
                chosen[row.dtype] = true;
            }
        } else {
            const std::string says = std::string("(") + row.name + "): ";
            expectRefused(status, FLASHRING_UNSUPPORTED,
                          says + (free[i].available ? "ruled out by a test = " + name : "this machine lacks "));
        }
    }
    CHECK(chosen.size() == 4, "under %s AUTO serves %zu types", name.c_str(), chosen.size());
    return static_cast<long>(rows.size());
}

// What a kernel does not serve is said first, whether or not it could run here.
long refusals() {
    const auto expect = [](const char* cap, flashring_step step, int32_t direction, const char* says) {
        int32_t selected;
        CHECK(flashring_set_max_kernel(cap, nullptr) == FLASHRING_OK, "%s", flashring_last_error());
        expectRefused(flashring_select(&step, direction, &selected), FLASHRING_UNSUPPORTED, says);
    };
    long cases = 0;
    for (const char* cap : {"", "avx2", "reference"}) {
        flashring_step device = stepOf(FLASHRING_FLOAT32, FLASHRING_KERNEL_AVX2);
        device.device = 0;
        flashring_step ordered = stepOf(FLASHRING_FLOAT32, FLASHRING_KERNEL_WGMMA),
                       served = stepOf(FLASHRING_BFLOAT16, FLASHRING_KERNEL_WGMMA);
        ordered.device = served.device = 0;
        ordered.deterministic = served.deterministic = 1;
        flashring_step dim = stepOf(FLASHRING_FLOAT32, FLASHRING_KERNEL_AVX512);
        dim.head_dim = 513;
        flashring_step wide = stepOf(FLASHRING_BFLOAT16, FLASHRING_KERNEL_AMX);
        wide.head_dim = 300;
        expect(cap, stepOf(FLASHRING_FLOAT32, FLASHRING_KERNEL_AMX), FLASHRING_FORWARD, "(amx), dtype = float32");
        expect(cap, stepOf(FLASHRING_BFLOAT16, FLASHRING_KERNEL_MMA), FLASHRING_FORWARD,
               "(mma), dtype = bfloat16, head_dim = 64, value_dim = 64, forward on the host");
        expect(cap, device, FLASHRING_BACKWARD,
               "(avx2), dtype = float32, head_dim = 64, value_dim = 64, backward on CUDA");
        expect(cap, ordered, FLASHRING_BACKWARD,
               "(wgmma), dtype = float32, head_dim = 64, value_dim = 64, deterministic backward on CUDA");
        for (served.value_dim = 64; served.value_dim <= 192; served.value_dim += 128) {
            int32_t selected;
            CHECK(flashring_select(&served, FLASHRING_BACKWARD, &selected) == FLASHRING_OK ||
                      !std::strstr(flashring_last_error(), "no kernel serves"),
                  "value_dim = %d, deterministic: %s", static_cast<int>(served.value_dim), flashring_last_error());
        }
        expect(cap, dim, FLASHRING_FORWARD, "head_dim = 513");
        expect(cap, wide, FLASHRING_FORWARD, "(amx), dtype = bfloat16, head_dim = 300");
        cases += 7;
    }
    return cases;
}

}  // namespace

int main() {
    unknownNames();
    CHECK(flashring_set_max_kernel("", nullptr) == FLASHRING_OK, "%s", flashring_last_error());
    const std::vector<flashring_capability> free = table();
    long cases = 0;
    for (size_t row = 0; row < free.size(); ++row) {
        std::string name = free[row].name;
        cases += capAt(free, row, name);
        std::transform(name.begin(), name.end(), name.begin(), ::toupper);
        cases += capAt(free, row, name);
    }
    return finish("cap", cases + refusals());
}
