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
                                  int64_t dim) {
                for (int64_t g = 0; g < args.kv_heads; ++g) {
                    std::memcpy(cached<Element>(args, to, pages, b, j, g), row<const Element>(from, b, i, g),
                                static_cast<size_t>(dim) * sizeof(Element));
                }
            };
            copy(args.new_k, args.k, args.k_pages, args.head_dim);
            copy(args.new_v, args.v, args.v_pages, args.value_dim);
        });
    });
    for (int64_t b = 0; args.lengths_after && b < args.batch; ++b) {
        const int64_t tokens = args.new_lengths ? args.new_lengths[b] : args.new_len;
        args.lengths_after[b] = static_cast<int32_t>(args.kv_lengths[b] + tokens);
    }
}

}  // namespace flashring
