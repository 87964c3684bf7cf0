// Who runs a step on a GPU: what flashring_select names, planned and with addresses, is what runs, bit for bit; wgmma refuses by its name what
// it does not take, and computes steps without queries or keys itself.
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
    for (flashring_tensor* t : {&step.q, &step.k, &step.v, &step.out, &step.acc, &step.lse, &step.dout, &step.delta, &step.dq, &step.dk, &step.dv}) *t = {};
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
    CHECK(a.out.sameBits(b.out) && a.lse.sameBits(b.lse) && a.dq.sameBits(b.dq) && a.dk.sameBits(b.dk) && a.dv.sameBits(b.dv),
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
                const char* const expected = hopper() && dim % 8 == 0 && order != Order::Padded ? "wgmma" : "mma";
                const char* const atFirst = hopper() && dim % 8 == 0 ? "wgmma" : "mma";
                for (const flashring_direction direction : {FLASHRING_FORWARD, FLASHRING_BACKWARD}) {
                    const flashring_capability row = nameOf(step, direction), before = nameOf(planned(step), direction);
                    CHECK(std::strcmp(row.name, expected) == 0, "%s: %s instead of %s", c.describe().c_str(), row.name, expected);
                    CHECK(std::strcmp(before.name, atFirst) == 0, "planned, %s: %s instead of %s", c.describe().c_str(), before.name, atFirst);
                }
                DeviceCase(c, automatic).run(FLASHRING_KERNEL_AUTO, {}, true);
                DeviceCase(c, named).run(nameOf(step, FLASHRING_FORWARD).kernel, {}, true);
                sameBits("whole", c, automatic, named);
                flashring_step byName = step;
                byName.kernel = FLASHRING_KERNEL_WGMMA;
                if (hopper() && std::strcmp(expected, "mma") == 0) {
                    CHECK(flashring_forward_step(&byName) == FLASHRING_UNSUPPORTED && std::strstr(flashring_last_error(), "(wgmma): rows of q must start"),
                          "%s", flashring_last_error());
                }
                ++cases;
            }
    return cases;
}

// Against the reference, for what a ring with empty shards makes: keys in blocks of which some are empty, and no queries.
long checkNothing() {
    long cases = 0;
    for (const int32_t dtype : {FLASHRING_BFLOAT16, FLASHRING_FLOAT16})
        for (const int64_t dim : {64, 128, 256})
            for (const Order order : {Order::BSHD, Order::BHSD}) {
                const auto compare = [&](Case c, const std::vector<int64_t>& splits) {
                    for (const int32_t kernel : {FLASHRING_KERNEL_AUTO, hopper() ? FLASHRING_KERNEL_WGMMA : FLASHRING_KERNEL_MMA}) {
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

// Heads that share keys and values by a stride of 0, as another library expands them: whoever the driver leaves them to.
long checkSharedRows() {
    long cases = 0;
    for (const int64_t dim : {64, 128, 256}) {
        Case c = makeCase(FLASHRING_BFLOAT16, dim, Order::BSHD);
        for (Buffer* buffer : {&c.k, &c.v}) {
            buffer->forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { buffer->set(b, s, h, d, buffer->get(b, s, 0, d)); });
        }
        Results actual(c), expected(c);
        DeviceCase device(c, actual);
        flashring_step step = device.whole(FLASHRING_KERNEL_AUTO);
        step.k.stride_head = step.v.stride_head = 0;
        CUDA(cudaDeviceSynchronize());
        const DeviceMemory workspace(static_cast<size_t>(step.workspace_bytes));
        step.workspace = workspace.data();
        std::printf("rows that heads share, D%lld: %s\n", static_cast<long long>(dim), nameOf(step, FLASHRING_FORWARD).name);
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
    if (flashring_device_count() == 0) {
        std::printf("skipped: %s\n", flashring_device_cause());
        return 77;
    }
    const long cases = checkNames() + checkNothing() + checkSharedRows();
    return finish("cuda selection", cases);
}
