#include "validate.h"

#include <cmath>
#include <cstddef>
#include <utility>

#include "capabilities.h"
#include "checks.h"
#include "dtypes.h"
#include "validate_rows.h"
#include "visibility.h"

namespace flashring {
namespace {

constexpr int64_t kMaxPosition = INT64_C(1) << 61;

// Host pointers are followed; a stream orders device work only.
void checkStream(int32_t device, const void* stream) {
    if (device == FLASHRING_HOST && stream) {
        invalid("stream = %p must be null on the host", stream);
    }
}

void checkPositions(int32_t device, const char* name, const flashring_positions& positions, const char* lengthName,
                    int64_t length) {
    if (positions.count < 0) {
        invalid("%s.count = %lld must not be negative", name, Wide{positions.count});
    }
    if (positions.count > 0 && !positions.ranges) {
        invalid("%s.ranges must not be null where %s.count = %lld", name, name, Wide{positions.count});
    }
    requireAligned(name, positions.ranges);
    if (device != FLASHRING_HOST) {
        return;  // the ranges live there
    }
    int64_t total = 0, next = 0;
    for (int64_t i = 0; i < positions.count; ++i) {
        const flashring_range& range = positions.ranges[i];
        if (range.length < 0) {
            invalid("%s.ranges[%lld].length = %lld must not be negative", name, Wide{i}, Wide{range.length});
        }
        if (range.length == 0) {
            continue;
        }
        if (range.stride < 1) {
            invalid("%s.ranges[%lld].stride = %lld must be at least 1", name, Wide{i}, Wide{range.stride});
        }
        if (range.start < next) {
            invalid("%s.ranges[%lld].start = %lld must be at least %lld: positions start at 0 and ascend strictly",
                    name, Wide{i}, Wide{range.start}, Wide{next});
        }
        int64_t last;
        if (__builtin_mul_overflow(range.length - 1, range.stride, &last) ||
            __builtin_add_overflow(last, range.start, &last) || last > kMaxPosition) {
            invalid("%s.ranges[%lld]: %lld + (%lld - 1) * %lld must not exceed 2^61", name, Wide{i}, Wide{range.start},
                    Wide{range.length}, Wide{range.stride});
        }
        next = last + 1;
        total += range.length;  // at most 2^61: positions are distinct
    }
    if (total != length) {
        invalid("%s: the lengths sum to %lld and must sum to %s = %lld", name, Wide{total}, lengthName, Wide{length});
    }
}

void checkMask(int32_t device, const flashring_mask& mask) {
    if (mask.documents < 0) {
        invalid("mask.documents = %lld must not be negative", Wide{mask.documents});
    }
    requireAligned("mask.cu_seqlens", mask.cu_seqlens);
    requireAligned("mask.prefix_lengths", mask.prefix_lengths);
    if (!mask.cu_seqlens && mask.documents > 1) {
        invalid("mask.documents = %lld must be 0 or 1 where mask.cu_seqlens is null", Wide{mask.documents});
    }
    if (device != FLASHRING_HOST) {
        return;  // the offsets and prefixes live there
    }
    if (mask.cu_seqlens) {
        if (mask.cu_seqlens[0] != 0) {
            invalid("mask.cu_seqlens[0] = %lld must be 0", Wide{mask.cu_seqlens[0]});
        }
        for (int64_t i = 1; i <= mask.documents; ++i) {
            if (mask.cu_seqlens[i] < mask.cu_seqlens[i - 1]) {
                invalid("mask.cu_seqlens[%lld] = %lld must be at least the offset before it, %lld", Wide{i},
                        Wide{mask.cu_seqlens[i]}, Wide{mask.cu_seqlens[i - 1]});
            }
        }
    }
    if (mask.prefix_lengths) {
        const int64_t count = mask.cu_seqlens ? mask.documents : 1;
        for (int64_t i = 0; i < count; ++i) {
            if (mask.prefix_lengths[i] < 0) {
                invalid("mask.prefix_lengths[%lld] = %lld must not be negative", Wide{i}, Wide{mask.prefix_lengths[i]});
            }
        }
    }
}

Shape queries(const flashring_step& step) { return {step.batch, step.q_len, step.q_heads, step.head_dim}; }
Shape outputs(const flashring_step& step) { return {step.batch, step.q_len, step.q_heads, step.value_dim}; }
Shape rows(const flashring_step& step) { return {step.batch, step.q_len, step.q_heads, 1}; }
Shape keys(const flashring_step& step) { return {step.batch, step.kv_len, step.kv_heads, step.head_dim}; }
Shape values(const flashring_step& step) { return {step.batch, step.kv_len, step.kv_heads, step.value_dim}; }

// One number for each query head, which is looked at only where it lies on the host.
template <class Allowed>
void checkHeads(const flashring_step& step, const char* name, const void* address, const char* rule,
                const Allowed& allowed) {
    const int32_t type = accumulatorType(step.dtype);
    if (!address) {
        return;
    }
    if (reinterpret_cast<uintptr_t>(address) % static_cast<uintptr_t>(elementBytes(type)) != 0) {
        invalid("%s = %p must be aligned to its element size, %lld bytes", name, address, Wide{elementBytes(type)});
    }
    for (int64_t h = 0; step.device == FLASHRING_HOST && h < step.q_heads; ++h) {
        const double value = type == FLASHRING_FLOAT64 ? static_cast<const double*>(address)[h]
                                                       : static_cast<double>(static_cast<const float*>(address)[h]);
        if (!allowed(value)) {
            invalid("%s[%lld] = %g must be %s", name, Wide{h}, value, rule);
        }
    }
}

void checkSinks(const flashring_step& step) {
    checkHeads(step, "sinks", step.sinks, "finite, or -inf for none", [](double sink) { return sink < INFINITY; });
}

// What forward and backward share: the operands read, and which query sees which key.
void checkAttention(const flashring_step& step) {
    if (!(step.softmax_scale > 0) || std::isinf(step.softmax_scale)) {
        invalid("softmax_scale = %g must be finite and greater than 0", step.softmax_scale);
    }
    // Powers of ten inside the normal numbers, with room for the factors that kernels fold into the scale.
    const bool wide = accumulatorType(step.dtype) == FLASHRING_FLOAT64;
    const double least = wide ? 1e-307 : 1e-37, most = wide ? 1e307 : 1e37;
    if (step.softmax_scale < least || step.softmax_scale > most) {
        invalid("softmax_scale = %g must be from %g to %g where scores are %s", step.softmax_scale, least, most,
                wide ? "float64" : "float32");
    }
    if (step.softcap != 0 && !(step.softcap >= least && step.softcap <= most)) {
        invalid("softcap = %g must be 0, or from %g to %g where scores are %s", step.softcap, least, most,
                wide ? "float64" : "float32");
    }
    checkHeads(step, "alibi_slopes", step.alibi_slopes, "finite and at least 0",
               [](double slope) { return slope >= 0 && slope < INFINITY; });
    checkStream(step.device, step.stream);
    checkTensor("q", step.q, queries(step), step.dtype, Access::Read);
    if (hasRows(step)) {
        return checkRows(step);
    }
    checkPositions(step.device, "q_positions", step.q_positions, "q_len", step.q_len);
    checkPositions(step.device, "kv_positions", step.kv_positions, "kv_len", step.kv_len);
    checkMask(step.device, step.mask);
    checkTensor("k", step.k, keys(step), step.dtype, Access::Read);
    checkTensor("v", step.v, values(step), step.dtype, Access::Read);
}

// The step without the addresses of operands that hold no element: nothing is shared where they coincide.
flashring_step withoutEmptyOperands(flashring_step step) {
    if (step.q_len == 0) {
        step.q.data = step.out.data = step.acc.data = step.lse.data = step.dout.data = step.delta.data = step.dq.data =
            step.lse_low.data = nullptr;
    }
    if (step.kv_len == 0) {
        step.k.data = step.v.data = step.dk.data = step.dv.data = nullptr;
    }
    return step;
}

void requireNotInput(const flashring_step& step, const char* name, const flashring_tensor& output) {
    requireDistinct(name, output, "q", step.q);
    requireDistinct(name, output, "k", step.k);
    requireDistinct(name, output, "v", step.v);
}

}  // namespace

const flashring_step& readStep(const flashring_step* given, flashring_step& own) {
    const flashring_step& step = readStruct("step", "flashring_step", given, offsetof(flashring_step, lse_low), own);
    if (step.device < FLASHRING_HOST) {
        invalid("device = %d must be -1 (the host) or a CUDA device", step.device);
    }
    requireDtype("dtype", step.dtype);
    requireKvDtype(step.kv_dtype, step.dtype);
    requireWithin("batch_invariant", step.batch_invariant, 0, 1);
    requireWithin("kernel", step.kernel, FLASHRING_KERNEL_AUTO, highestKernel());
    requireWithin("deterministic", step.deterministic, 0, 1);
    constexpr int32_t known =
        FLASHRING_RESUME | FLASHRING_FINISH | FLASHRING_ADD_DQ | FLASHRING_ADD_DKV | FLASHRING_ADD_DSINKS;
    if (step.flags & ~known) {
        invalid("flags = 0x%x must hold known flags only, 0x%x", static_cast<unsigned>(step.flags),
                static_cast<unsigned>(known));
    }
    requireAtLeast("batch", step.batch, 1);
    requireAtLeast("q_len", step.q_len, 0);
    requireAtLeast("kv_len", step.kv_len, 0);
    requireAtLeast("q_heads", step.q_heads, 1);
    requireAtLeast("kv_heads", step.kv_heads, 1);
    requireAtLeast("head_dim", step.head_dim, 1);
    requireAtLeast("value_dim", step.value_dim, 1);
    if (step.q_heads % step.kv_heads != 0) {
        invalid("q_heads = %lld must be a multiple of kv_heads = %lld", Wide{step.q_heads}, Wide{step.kv_heads});
    }
    checkProduct("q", queries(step), sizeof(double));
    checkProduct("k", keys(step), sizeof(double));
    checkProduct("v", values(step), sizeof(double));
    checkProduct("out", outputs(step), sizeof(double));
    return step;
}

void checkForward(const flashring_step& given) {
    const flashring_step step = withoutEmptyOperands(given);
    checkAttention(step);
    const int32_t accType = accumulatorType(step.dtype);
    const bool finish = step.flags & FLASHRING_FINISH, resume = step.flags & FLASHRING_RESUME;
    if (!resume) {
        checkSinks(step);
    }
    checkTensor("lse", step.lse, rows(step), accType, Access::Write);
    if (finish) {
        checkTensor("out", step.out, outputs(step), step.dtype, Access::Write);
        requireNotInput(step, "out", step.out);
        requireDistinct("out", step.out, "lse", step.lse);
    }
    if (step.acc.data || !finish || resume) {
        checkTensor("acc", step.acc, outputs(step), accType, Access::Write);
        requireNotInput(step, "acc", step.acc);
        requireDistinct("acc", step.acc, "lse", step.lse);
    }
    if (finish && step.acc.data && step.acc.data == step.out.data &&
        (accType != step.dtype || !sameStrides(step.acc, step.out))) {
        invalid("acc.data = %p may be out.data only where the types and strides agree", step.acc.data);
    }
    requireNotInput(step, "lse", step.lse);
    if (step.lse_low.data) {
        checkTensor("lse_low", step.lse_low, rows(step), accType, Access::Write);
        requireNotInput(step, "lse_low", step.lse_low);
        requireDistinct("lse_low", step.lse_low, "lse", step.lse);
        requireDistinct("lse_low", step.lse_low, "out", step.out);
        requireDistinct("lse_low", step.lse_low, "acc", step.acc);
    }
}

void checkDelta(const flashring_step& given) {
    const flashring_step step = withoutEmptyOperands(given);
    checkStream(step.device, step.stream);
    checkTensor("out", step.out, outputs(step), step.dtype, Access::Read);
    checkTensor("dout", step.dout, outputs(step), step.dtype, Access::Read);
    checkTensor("delta", step.delta, rows(step), accumulatorType(step.dtype), Access::Write);
    requireDistinct("delta", step.delta, "out", step.out);
    requireDistinct("delta", step.delta, "dout", step.dout);
    if (!step.dsinks) {
        return;
    }
    if (!step.sinks) {
        invalid("sinks must not be null where dsinks is given");
    }
    checkSinks(step);
    checkHeads(step, "dsinks", step.dsinks, "", [](double) { return true; });
    checkTensor("lse", step.lse, rows(step), accumulatorType(step.dtype), Access::Read);
    requireDistinct("delta", step.delta, "lse", step.lse);
    if (step.dsinks == step.sinks) {
        invalid("dsinks = %p must not be sinks", step.dsinks);
    }
}

void checkBackward(const flashring_step& given) {
    const flashring_step step = withoutEmptyOperands(given);
    checkAttention(step);
    const int32_t accType = accumulatorType(step.dtype);
    checkTensor("dout", step.dout, outputs(step), step.dtype, Access::Read);
    checkTensor("lse", step.lse, rows(step), accType, Access::Read);
    checkTensor("delta", step.delta, rows(step), accType, Access::Read);
    checkTensor("dq", step.dq, queries(step), accType, Access::Write);
    checkTensor("dk", step.dk, keys(step), accType, Access::Write);
    checkTensor("dv", step.dv, values(step), accType, Access::Write);
    requireDistinct("dq", step.dq, "dk", step.dk);
    requireDistinct("dq", step.dq, "dv", step.dv);
    requireDistinct("dk", step.dk, "dv", step.dv);
    const std::pair<const char*, const flashring_tensor*> written[] = {
        {"dq", &step.dq}, {"dk", &step.dk}, {"dv", &step.dv}};
    for (const auto& [name, output] : written) {
        requireNotInput(step, name, *output);
        requireDistinct(name, *output, "dout", step.dout);
        requireDistinct(name, *output, "lse", step.lse);
        requireDistinct(name, *output, "delta", step.delta);
    }
}

void checkWorkspace(const flashring_step& step, int64_t needed) {
    if (step.workspace_bytes < needed) {
        invalid("workspace_bytes = %lld must be at least %lld", Wide{step.workspace_bytes}, Wide{needed});
    }
    if (needed > 0 && !step.workspace) {
        invalid("workspace must not be null");
    }
    if (reinterpret_cast<uintptr_t>(step.workspace) % 64 != 0) {
        invalid("workspace = %p must be aligned to 64 bytes", step.workspace);
    }
}

const flashring_merge_args& readMerge(const flashring_merge_args* given, flashring_merge_args& own) {
    const flashring_merge_args& args = readStruct("args", "flashring_merge_args", given, sizeof own, own);
    if (args.device < FLASHRING_HOST) {
        invalid("device = %d must be -1 (the host) or a CUDA device", args.device);
    }
    checkStream(args.device, args.stream);
    requireDtype("dtype", args.dtype);
    requireWithin("reserved", args.reserved, 0, 0);
    requireAtLeast("states", args.states, 1);
    requireAtLeast("state_stride", args.state_stride, 0);
    requireAtLeast("batch", args.batch, 0);
    requireAtLeast("length", args.length, 0);
    requireAtLeast("heads", args.heads, 0);
    requireAtLeast("dim", args.dim, 0);
    const Shape outputs{args.batch, args.length, args.heads, args.dim}, sums{args.batch, args.length, args.heads, 1};
    const int32_t accType = accumulatorType(args.dtype);
    checkProduct("states", {args.states, args.state_stride, 1, 1}, sizeof(double));
    checkTensor("acc", args.acc, outputs, accType, Access::Read);
    checkTensor("state_lse", args.state_lse, sums, accType, Access::Read);
    checkTensor("out", args.out, outputs, args.dtype, Access::Write);
    requireDistinct("out", args.out, "acc", args.acc);
    requireDistinct("out", args.out, "state_lse", args.state_lse);
    if (args.lse.data) {
        checkTensor("lse", args.lse, sums, accType, Access::Write);
        requireDistinct("lse", args.lse, "acc", args.acc);
        requireDistinct("lse", args.lse, "state_lse", args.state_lse);
        requireDistinct("lse", args.lse, "out", args.out);
    }
    return args;
}

const flashring_combine_args& readCombine(const flashring_combine_args* given, flashring_combine_args& own) {
    const flashring_combine_args& args = readStruct("args", "flashring_combine_args", given, sizeof own, own);
    if (args.device < FLASHRING_HOST) {
        invalid("device = %d must be -1 (the host) or a CUDA device", args.device);
    }
    checkStream(args.device, args.stream);
    requireDtype("dst_dtype", args.dst_dtype);
    requireDtype("a_dtype", args.a_dtype);
    requireDtype("b_dtype", args.b_dtype);
    requireWithin("reserved", args.reserved, 0, 0);
    requireAtLeast("batch", args.batch, 0);
    requireAtLeast("length", args.length, 0);
    requireAtLeast("heads", args.heads, 0);
    requireAtLeast("dim", args.dim, 0);
    const Shape shape{args.batch, args.length, args.heads, args.dim};
    checkTensor("dst", args.dst, shape, args.dst_dtype, Access::Write);
    checkTensor("a", args.a, shape, args.a_dtype, Access::Read);
    if (args.b.data) {
        checkTensor("b", args.b, shape, args.b_dtype, Access::Read);
    }
    const auto mayShare = [&](const char* name, const flashring_tensor& source, int32_t dtype) {
        if (source.data && source.data == args.dst.data &&
            (dtype != args.dst_dtype || !sameStrides(source, args.dst))) {
            invalid("dst.data = %p may be %s.data only where the types and strides agree", args.dst.data, name);
        }
    };
    mayShare("a", args.a, args.a_dtype);
    mayShare("b", args.b, args.b_dtype);
    return args;
}

}  // namespace flashring
