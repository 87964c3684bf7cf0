// Who runs a step on a GPU: what flashring_select names, planned and with addresses, is what runs, bit for bit; wgmma
// refuses by its name what it does not take, and computes steps without queries or keys itself.
#include <cstring>

#include "cuda/device_case.h"

namespace {

Case makeCase(int32_t dtype, int64_t dim, Order order, int64_t qLen = 150, int64_t kvLen = 150) {
    std::mt19937_64 random(static_cast<uint64_t>(dim));
    Case c;
    c.dtype = dtype;
    c.shape = {2, qLen, kvLen, 4, 2, dim, dim};
    c.scale = 1 / std::sqrt(static_cast<double>(dim));
    c.mask.right = 0;
    c.order = order;
    c.qRanges = {{0, qLen, 1}};
    c.kvRanges = {{0, kvLen, 1}};
    c.draw(random);
    return c;
}

flashring_capability nameOf(const flashring_step& step, flashring_direction direction) {
    int32_t row = 0;
    CHECK(flashring_select(&step, direction, &row) == FLASHRING_OK, "%s", flashring_last_error());
    flashring_capability capability{};
    capability.size = sizeof capability;
    flashring_capability_get(row, &capability);
    return capability;
}

flashring_step planned(flashring_step step) {
    for (flashring_tensor* t : {&step.q, &step.k, &step.v, &step.out, &step.acc, &step.lse, &step.dout, &step.delta,
                                &step.dq, &step.dk, &step.dv}) {
        *t = {};
    }
    return step;
}

bool hopper() {
    for (int32_t i = 0; i < flashring_capability_count(); ++i) {
        flashring_capability row{};
        row.size = sizeof row;
        flashring_capability_get(i, &row);
        if (row.kernel == FLASHRING_KERNEL_WGMMA && row.available) return true;
    }
    return false;
}

void sameBits(const char* what, const Case& c, const Results& a, const Results& b) {
    const bool gradients = a.dq.sameBits(b.dq) && a.dk.sameBits(b.dk) && a.dv.sameBits(b.dv);
    CHECK(a.out.sameBits(b.out) && a.lse.sameBits(b.lse) && gradients,
          "%s: %s: AUTO's bits are not those of the kernel that it names", what, c.describe().c_str());
}

long checkNames() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16})
        for (const int64_t dim : {64, 100, 128, 192})
            for (const Order order : {Order::BSHD, Order::BHSD, Order::Padded}) {
                Case c = makeCase(dtype, dim, order);
                Results automatic(c), named(c);
                DeviceCase device(c, automatic);
                const flashring_step step = device.whole(FLASHRING_KERNEL_AUTO);
                const bool whole = hopper() && dim % 8 == 0;
                const std::string expected = whole && order != Order::Padded ? "wgmma" : "mma";
                for (const flashring_direction direction : {FLASHRING_FORWARD, FLASHRING_BACKWARD}) {
                    const char* const name = nameOf(step, direction).name;
                    const char* const before = nameOf(planned(step), direction).name;
                    CHECK(name == expected, "%s: %s", c.describe().c_str(), name);
                    CHECK(std::string(before) == (whole ? "wgmma" : "mma"), "planned, %s: %s", c.describe().c_str(),
                          before);
                }
                DeviceCase(c, automatic).run(FLASHRING_KERNEL_AUTO, {}, true);
                DeviceCase(c, named).run(nameOf(step, FLASHRING_FORWARD).kernel, {}, true);
                sameBits("whole", c, automatic, named);
                flashring_step byName = step;
                byName.kernel = FLASHRING_KERNEL_WGMMA;
                if (hopper() && expected == "mma") {
                    const int32_t status = flashring_forward_step(&byName);
                    const char* const message = flashring_last_error();
                    CHECK(status == FLASHRING_UNSUPPORTED && std::strstr(message, "(wgmma): rows of q must start"),
                          "%s", message);
                }
                ++cases;
            }
    return cases;
}

// Workspace grows with the lengths from 0 on: with the keys whoever runs the steps, with the queries where one kernel
// does, for steps of few may go to another.
long checkWorkspace() {
    long cases = 0;
    for (const int64_t dim : {64, 100, 128, 256})
        for (const bool deterministic : {false, true})
            for (const flashring_direction direction : {FLASHRING_FORWARD, FLASHRING_BACKWARD}) {
                flashring_step step = {};
                step.size = sizeof step;
                step.dtype = FLASHRING_BFLOAT16;
                step.deterministic = deterministic;
                step.batch = step.q_heads = step.kv_heads = 2;
                step.head_dim = step.value_dim = dim;
                for (int64_t* const length : {&step.q_len, &step.kv_len}) {
                    step.q_len = step.kv_len = 500;
                    step.kernel = length == &step.q_len ? FLASHRING_KERNEL_MMA : FLASHRING_KERNEL_AUTO;
                    int64_t last = 0;
                    for (const int64_t tokens : {0, 1, 63, 64, 65, 1000}) {
                        int64_t bytes = 0;
                        *length = tokens;
                        const int32_t status = flashring_workspace_bytes(&step, direction, &bytes);
                        CHECK(status == FLASHRING_OK && bytes >= last,
                              "D%lld, %lld tokens: %lld bytes, %lld with fewer", static_cast<long long>(dim),
                              static_cast<long long>(tokens), static_cast<long long>(bytes),
                              static_cast<long long>(last));
                        last = bytes;
                        ++cases;
                    }
                }
            }
    return cases;
}

// Against the reference, for what a ring with empty shards makes: keys in blocks, some of them empty, and no queries.
long checkNothing() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16})
        for (const int64_t dim : {64, 128, 256})
            for (const Order order : {Order::BSHD, Order::BHSD}) {
                const auto compare = [&](Case c, const std::vector<int64_t>& splits) {
                    const int32_t best = hopper() ? FLASHRING_KERNEL_WGMMA : FLASHRING_KERNEL_MMA;
                    for (const int32_t kernel : {static_cast<int32_t>(FLASHRING_KERNEL_AUTO), best}) {
                        Results actual(c), expected(c);
                        DeviceCase(c, actual).run(kernel, splits, false);
                        DeviceCase(c, expected).run(FLASHRING_KERNEL_REFERENCE, splits, false);
                        const double bar = dtype == FLASHRING_BFLOAT16 ? 3e-2 : 4e-3;
                        checkClose(c.describe(), "out", actual.out, expected.out, bar);
                        checkClose(c.describe(), "lse", actual.lse, expected.lse, 1e-4);
                        checkClose(c.describe(), "dq", actual.dq, expected.dq, 5 * bar);
                        checkClose(c.describe(), "dk", actual.dk, expected.dk, 5 * bar);
                        checkClose(c.describe(), "dv", actual.dv, expected.dv, 5 * bar);
                        CHECK(actual.intact(), "%s: wrote outside a tensor", c.describe().c_str());
                        ++cases;
                    }
                };
                compare(makeCase(dtype, dim, order), {0, 150});
                compare(makeCase(dtype, dim, order), {0, 70, 70});
                compare(makeCase(dtype, dim, order, 150, 0), {});
                compare(makeCase(dtype, dim, order, 150, 0), {0});
                compare(makeCase(dtype, dim, order, 0, 150), {70});
                compare(makeCase(dtype, dim, order, 0, 0), {});
            }
    return cases;
}

// Heads that share keys and values by a stride of 0, as another library expands them: whoever it is that the driver
// lets.
long checkSharedRows() {
    long cases = 0;
    for (const int64_t dim : {64, 128, 256}) {
        Case c = makeCase(FLASHRING_BFLOAT16, dim, Order::BSHD);
        for (Buffer* buffer : {&c.k, &c.v}) {
            buffer->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) {
                buffer->set(b, s, h, d, buffer->get(b, s, 0, d));
            });
        }
        Results actual(c), expected(c);
        DeviceCase device(c, actual);
        flashring_step step = device.whole(FLASHRING_KERNEL_AUTO);
        step.k.stride_head = step.v.stride_head = 0;
        CUDA(cudaDeviceSynchronize());
        const DeviceMemory workspace(static_cast<size_t>(step.workspace_bytes));
        step.workspace = workspace.data();
        const char* const name = nameOf(step, FLASHRING_FORWARD).name;
        std::printf("rows that heads share, D%lld: %s\n", static_cast<long long>(dim), name);
        CHECK(flashring_forward_step(&step) == FLASHRING_OK, "%s", flashring_last_error());
        device.download();
        DeviceCase(c, expected).forward(FLASHRING_KERNEL_REFERENCE, {});
        checkClose("shared rows", "out", actual.out, expected.out, 3e-2);
        checkClose("shared rows", "lse", actual.lse, expected.lse, 1e-4);
        ++cases;
    }
    return cases;
}

}  // namespace

int main() {
    skipWithoutDevice();
    const long cases = checkNames() + checkWorkspace() + checkNothing() + checkSharedRows();
    return finish("cuda selection", cases);
}
