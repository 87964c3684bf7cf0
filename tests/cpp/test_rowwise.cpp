// flashring_combine over all dtypes, strides and sizes, in place and as a copy, and flashring_delta at odd shapes.
#include "attention_case.h"

namespace {

Buffer draw(int32_t dtype, int64_t length, int64_t heads, int64_t dim, Order order, std::mt19937_64& random) {
    Buffer buffer(dtype, 2, length, heads, dim, order);
    std::normal_distribution<double> normal;
    buffer.forEach([&](int64_t b, int64_t s, int64_t h, int64_t d) { buffer.set(b, s, h, d, normal(random)); });
    return buffer;
}

double unit(int32_t dtype) {  // half a unit in the last place of 1
    const double units[] = {0x1p-53, 0x1p-24, 0x1p-8, 0x1p-11};
    return units[dtype];
}

void combine(int32_t dstType, int32_t aType, int32_t bType, bool copy, bool inPlace, std::mt19937_64& random) {
    const int64_t length = pick(random, 0, 20), heads = pick(random, 1, 3),
                  dim = pick(random, 0, 1) ? pick(random, 1, 40) : pick(random, 200, 600);
    const auto order = [&] { return static_cast<Order>(pick(random, 0, 2)); };
    const Order first = order();
    Buffer a = draw(aType, length, heads, dim, first, random), b = draw(bType, length, heads, dim, order(), random);
    const Buffer before = a;
    Buffer fresh(dstType, 2, length, heads, dim, order());
    Buffer& dst = inPlace ? a : fresh;
    flashring_combine_args args{};
    args.size = sizeof args;
    args.device = FLASHRING_HOST;
    args.dst_dtype = dstType;
    args.a_dtype = aType;
    args.b_dtype = bType;
    args.batch = 2;
    args.length = length;
    args.heads = heads;
    args.dim = dim;
    args.dst = dst.tensor();
    args.a = a.tensor();
    args.b = copy ? flashring_tensor{} : b.tensor();
    CHECK(flashring_combine(&args) == FLASHRING_OK, "%s", flashring_last_error());
    const double bar = unit(dstType) + (dstType == FLASHRING_FLOAT64 ? 0 : unit(FLASHRING_FLOAT32));
    dst.forEach([&](int64_t i, int64_t s, int64_t h, int64_t d) {
        const double sum = before.get(i, s, h, d) + (copy ? 0 : b.get(i, s, h, d)), actual = dst.get(i, s, h, d);
        CHECK(std::fabs(actual - sum) <=
                  bar * std::max(1e-3, std::fabs(before.get(i, s, h, d)) + std::fabs(b.get(i, s, h, d))),
              "%s = %s + %s: %g for %g", nameOf(dstType), nameOf(aType), nameOf(bType), actual, sum);
    });
    CHECK(dst.intact() && a.intact() && b.intact(), "combine wrote outside a tensor");
}

// Every 16-bit pattern widens exactly; and rounding is to nearest even, as the tests' own encoder has it.
void conversions(int32_t dtype) {
    std::vector<uint16_t> patterns(65536), back(65536);
    std::vector<float> wide(65536);
    for (size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
    const auto convert = [](int32_t toType, void* to, int32_t fromType, void* from) {
        flashring_combine_args args{};
        args.size = sizeof args;
        args.device = FLASHRING_HOST;
        args.dst_dtype = toType;
        args.a_dtype = fromType;
        args.batch = args.length = args.heads = 1;
        args.dim = 65536;
        args.dst.data = to;
        args.a.data = from;
        CHECK(flashring_combine(&args) == FLASHRING_OK, "%s", flashring_last_error());
    };
    convert(FLASHRING_FLOAT32, wide.data(), dtype, patterns.data());
    for (size_t i = 0; i < wide.size(); ++i) {
        const double expected = decode16(dtype, static_cast<int>(i));
        CHECK(wide[i] == expected || (std::isnan(wide[i]) && std::isnan(expected)), "%s 0x%zx widens to %g",
              nameOf(dtype), i, static_cast<double>(wide[i]));
    }
    std::mt19937_64 random(5);
    for (size_t i = 0; i < wide.size(); ++i) {
        const double neighbour = decode16(dtype, static_cast<int>((i + 1) & 0xffff)),
                     middle = (static_cast<double>(wide[i]) + neighbour) / 2;
        const double value = i % 3 == 0   ? middle
                             : i % 3 == 1 ? middle * 1.0001
                                          : std::ldexp(static_cast<double>(random()), static_cast<int>(i % 100) - 100);
        wide[i] = static_cast<float>(value);
    }
    convert(dtype, back.data(), FLASHRING_FLOAT32, wide.data());
    for (size_t i = 0; i < wide.size(); ++i) {
        uint16_t expected;
        encode(dtype, reinterpret_cast<char*>(&expected), static_cast<double>(wide[i]));
        CHECK(back[i] == expected || std::isnan(wide[i]), "%a rounds to %s 0x%x instead of 0x%x",
              static_cast<double>(wide[i]), nameOf(dtype), back[i], expected);
    }
}

}  // namespace

int main() {
    std::mt19937_64 random(11);
    long cases = 0;
    for (int32_t dst = 0; dst < 4; ++dst) {
        for (int32_t a = 0; a < 4; ++a) {
            for (int32_t b = 0; b < 4; ++b) {
                for (int n = 0; n < 4; ++n, ++cases) combine(dst, a, b, n == 1, n == 2 && dst == a, random);
            }
        }
    }
    conversions(FLASHRING_BFLOAT16);
    conversions(FLASHRING_FLOAT16);
    return finish("rowwise", cases + 2);
}
