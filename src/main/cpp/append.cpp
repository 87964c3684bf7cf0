#include "append.h"

#include <cstring>

#include "dtypes.h"
#include "elements.h"
#include "kernels.h"
#include "threads.h"
#include "visibility.h"

namespace flashring {

void append(const flashring_append_args& args) {
    parallelFor(args.batch * args.new_len, [&](int64_t index, char*) {
        const int64_t b = index / args.new_len, i = index % args.new_len;
        if (i >= (args.new_lengths ? args.new_lengths[b] : args.new_len)) {
            return;
        }
        withElement(args.dtype, [&](auto element) {
            using Element = decltype(element);
            const int64_t key = args.kv_lengths[b] + i, j = keysOnShard(args, key);
            if (keysOnShard(args, key + 1) == j) {
                return;  // another shard's
            }
            const auto copy = [&](const flashring_tensor& from, const flashring_tensor& to, const void* const* pages,
                                  const float* scales, int64_t dim) {
                for (int64_t g = 0; g < args.kv_heads; ++g) {
                    const Element* const source = row<const Element>(from, b, i, g);
                    if (args.kv_dtype == FLASHRING_KV_OF_STEP) {
                        std::memcpy(cached<Element>(args, to, pages, b, j, g), source,
                                    static_cast<size_t>(dim) * sizeof(Element));
                        continue;
                    }
                    float8* const target = cached<float8>(args, to, pages, b, j, g);
                    for (int64_t d = 0; d < dim; ++d) {
                        target[d] = Narrow<float8>::from(static_cast<float>(widen(source[d])) / scaleOfHead(scales, g));
                    }
                }
            };
            copy(args.new_k, args.k, args.k_pages, args.k_scales, args.head_dim);
            copy(args.new_v, args.v, args.v_pages, args.v_scales, args.value_dim);
        });
    });
    for (int64_t b = 0; args.lengths_after && b < args.batch; ++b) {
        const int64_t tokens = args.new_lengths ? args.new_lengths[b] : args.new_len;
        args.lengths_after[b] = static_cast<int32_t>(args.kv_lengths[b] + tokens);
    }
}

}  // namespace flashring
