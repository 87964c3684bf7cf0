// Which operands the Hopper kernels can have copied, without a GPU: addresses, strides and dims one step off what the
// copy engine needs, each of each operand that a step copies, and of no other.
#include "buffers.h"
#include "sm90/reach.h"

namespace {

long cases = 0;

// Tensors one behind the other at addresses that are never followed.
flashring_step stepOf(int64_t dim, int32_t flags) {
    flashring_step step{};
    step.dtype = FLASHRING_BFLOAT16;
    step.flags = flags;
    step.batch = 2;
    step.q_len = 5;
    step.kv_len = 7;
    step.q_heads = 6;
    step.kv_heads = 3;
    step.head_dim = step.value_dim = dim;
    uintptr_t address = 0x10000;
    for (flashring_tensor* t : {&step.q, &step.k, &step.v, &step.out, &step.acc, &step.lse, &step.dout, &step.delta,
                                &step.dq, &step.dk, &step.dv}) {
        *t = {reinterpret_cast<void*>(address), 10 * 6 * dim, 6 * dim, dim};
        address += 0x10000;
    }
    return step;
}

std::string unreached(const flashring_step& step, flashring_direction direction, bool copiesState) {
    std::string name;
    flashring::forEachCopied(step, direction, copiesState, [&](const flashring::Copied& c) {
        if (!flashring::reached(c)) name = c.name;
        return name.empty();
    });
    ++cases;
    return name;
}

void expect(const flashring_step& step, flashring_direction direction, const std::string& expected,
            bool copiesState = true) {
    const std::string actual = unreached(step, direction, copiesState);
    CHECK(actual == expected, "direction %d: \"%s\" instead of \"%s\"", direction, actual.c_str(), expected.c_str());
}

struct Operand {
    const char* name;
    flashring_tensor flashring_step::* tensor;
    bool forward, backward;
};

constexpr Operand kOperands[] = {
    {"q", &flashring_step::q, true, true},        {"k", &flashring_step::k, true, true},
    {"v", &flashring_step::v, true, true},        {"out", &flashring_step::out, false, false},
    {"acc", &flashring_step::acc, true, false},   {"lse", &flashring_step::lse, false, false},
    {"dout", &flashring_step::dout, false, true}, {"delta", &flashring_step::delta, false, false},
    {"dq", &flashring_step::dq, false, true},     {"dk", &flashring_step::dk, false, true},
    {"dv", &flashring_step::dv, false, true}};

template <class Spoil>
void spoilEach(const Spoil& spoil) {
    for (const Operand& operand : kOperands) {
        flashring_step step = stepOf(64, FLASHRING_RESUME);
        spoil(step.*operand.tensor);
        expect(step, FLASHRING_FORWARD, operand.forward ? operand.name : "");
        expect(step, FLASHRING_BACKWARD, operand.backward ? operand.name : "");
    }
}

void spoiled() {
    spoilEach([](flashring_tensor& t) { t.data = static_cast<char*>(t.data) + 8; });
    spoilEach([](flashring_tensor& t) { t.stride_batch += 2; });
    spoilEach([](flashring_tensor& t) { t.stride_seq += 2; });
    spoilEach([](flashring_tensor& t) { t.stride_head += 2; });
    spoilEach([](flashring_tensor& t) { t.stride_batch = INT64_C(1) << 39; });  // 2^40 bytes and more
    spoilEach([](flashring_tensor& t) { t.stride_head = -64; });
}

void suiting() {
    for (const int64_t dim : {8, 64, 72, 256}) {
        for (const int32_t flags : {0, static_cast<int32_t>(FLASHRING_RESUME)}) {
            expect(stepOf(dim, flags), FLASHRING_FORWARD, "");
            expect(stepOf(dim, flags), FLASHRING_BACKWARD, "");
        }
    }
    expect(stepOf(100, 0), FLASHRING_FORWARD, "q");
    flashring_step narrow = stepOf(64, 0);
    narrow.value_dim = 60;
    expect(narrow, FLASHRING_FORWARD, "v");
    flashring_step state = stepOf(64, FLASHRING_RESUME);
    state.acc.stride_seq += 1;
    expect(state, FLASHRING_FORWARD, "acc");
    expect(state, FLASHRING_FORWARD, "", false);
    state.flags = 0;
    expect(state, FLASHRING_FORWARD, "");
    // Where there is one place, its stride means nothing.
    flashring_step one = stepOf(64, 0);
    one.batch = one.kv_heads = 1;
    one.k.stride_batch = one.k.stride_head = 3;
    expect(one, FLASHRING_FORWARD, "");
    // Without an address the dim counts alone.
    flashring_step planned = stepOf(64, FLASHRING_RESUME);
    for (const Operand& operand : kOperands) planned.*operand.tensor = {nullptr, 1, 1, 1};
    expect(planned, FLASHRING_FORWARD, "");
    expect(planned, FLASHRING_BACKWARD, "");
    planned.head_dim = 68;
    expect(planned, FLASHRING_BACKWARD, "q");
}

void sharing() {
    const flashring_step step = stepOf(64, 0);
    flashring_tensor expanded = step.k;
    expanded.stride_head = 0;
    const auto shares = [&](const flashring_tensor& tensor, int64_t heads) {
        ++cases;
        return flashring::sharesRows({"k", tensor, {2, 7, heads, 64}, FLASHRING_BFLOAT16});
    };
    CHECK(shares(expanded, 3) && !shares(expanded, 1) && !shares(step.k, 3),
          "rows that heads share are told by their stride");
    expanded.data = nullptr;
    CHECK(!shares(expanded, 3), "a tensor without an address shares nothing yet");
}

}  // namespace

int main() {
    spoiled();
    suiting();
    sharing();
    return finish("reach", cases);
}
