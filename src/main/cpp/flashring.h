/*
 * FlashRing: the native interface, a plain C ABI. SPDX-License-Identifier: Apache-2.0
 *
 * One device's share of sharded attention: softmax(score(Q K^T)) V where every query sees one interval of key
 * positions, computed in resumable steps over blocks of keys and values, forward and backward. A ring (or any other
 * order of blocks) is a sequence of such steps; the ring itself lives with the caller.
 *
 * Rules that hold for every function
 *  - Returns FLASHRING_OK or another flashring_status; the sentence is flashring_last_error(), per thread.
 *    Nothing here prints, throws across the border, or ends the process.
 *  - Memory belongs to the caller and is borrowed for the call (on a GPU: until the stream has passed it).
 *  - Structs start with their size: set it to sizeof(the struct), zero the rest, then fill in. Releases add fields at
 *    the end alone, and zero in them means what was before. So programs and libraries of different releases go
 *    together: what an older program's struct lacks counts as zero, and a newer program's is taken where the fields
 *    that the library does not know are zero, else refused with the struct's name and the place. A struct that the
 *    library fills in ends with zeros there.
 *  - On a CUDA device everything that a step points to (tensors, workspace, position ranges, cu_seqlens,
 *    prefix_lengths, sinks, alibi_slopes, dsinks, lengths, tables of pages) is memory that the device can read, and is
 *    read when the stream gets there: calls return at once and never wait. The values behind such pointers cannot be
 *    checked on the host; ranges, offsets, sinks and slopes that break their rules give wrong results, and a
 *    deterministic backward step may then never finish. Lengths and pages are clamped, see flashring_step.
 *  - Strides are counted in elements; the last dimension (head dim) is contiguous.
 *  - Everything is thread-safe; calls from several threads share one pool of CPU workers. A child of fork() may compute
 *    on the CPU, whatever other threads were doing: it gets workers of its own, as many as its parent had.
 *  - Denormal numbers count in operands, sums and results of the reference and the SIMD kernels; AMX takes them for 0
 *    in operands and results of its products. A probability below the smallest normal number of the acc type may be 0
 *    anywhere.
 */
#ifndef FLASHRING_H
#define FLASHRING_H

#include "flashring_library.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FLASHRING_HOST = -1 };       /* flashring_step.device: the host; n >= 0 is CUDA device n */

typedef enum flashring_flag {
    FLASHRING_RESUME = 1,           /* forward: start from the state in (acc, lse) instead of the empty state */
    FLASHRING_FINISH = 2,           /* forward: write `out` in the step's dtype; acc may then be null unless RESUME */
    FLASHRING_ADD_DQ = 4,           /* backward: add to dq instead of overwriting it */
    FLASHRING_ADD_DKV = 8,          /* backward: add to dk and dv instead of overwriting them */
    FLASHRING_ADD_DSINKS = 16       /* delta: add to dsinks instead of overwriting them */
} flashring_flag;

/* A strided view of [batch, seq, heads, dim]; lse and delta are [batch, seq, heads] in the same terms. */
typedef struct flashring_tensor {
    void* data;                     /* address of element (0, 0, 0, 0) */
    int64_t stride_batch;
    int64_t stride_seq;
    int64_t stride_head;
} flashring_tensor;

/* Global positions start, start + stride, ..., `length` of them. */
typedef struct flashring_range {
    int64_t start;
    int64_t length;
    int64_t stride;
} flashring_range;

/*
 * The global position of each local token: the ranges one after the other. Positions ascend strictly over the whole
 * list, so that an interval of global positions is an interval of local ones. Lengths sum to q_len or kv_len.
 */
typedef struct flashring_positions {
    const flashring_range* ranges;
    int64_t count;
} flashring_positions;

/*
 * One interval [lo, hi) of key positions for each query position q, whose ends never decrease with q.
 * With [s, e) the document that holds q (documents: [cu_seqlens[i], cu_seqlens[i + 1]); none given: [0, inf)):
 *
 *     hi = right < 0 ? e : min(e, q + right + 1)          causal is right = 0
 *     hi = max(hi, min(e, s + prefix_lengths[i]))         where prefix_lengths is given: prefix-LM
 *     lo = left < 0 ? s : max(s, q - left)                a causal window of w keys is left = w - 1, right = 0
 *
 *     causal      left 2, right 0    two documents 3+3    prefix 2, causal
 *     x . . . .   x . . . . .        x x x . . .          x x . . .
 *     x x . . .   x x . . . .        x x x . . .          x x . . .
 *     x x x . .   x x x . . .        x x x . . .          x x x . .
 *     x x x x .   . x x x . .        . . . x x x          x x x x .
 *     x x x x x   . . x x x .        . . . x x x          x x x x x
 *
 * A query outside every document sees nothing. A query that sees nothing gets output 0, lse -inf (with sinks: its
 * head's sink) and zero gradients.
 */
typedef struct flashring_mask {
    int64_t left;                   /* keys before the query that it sees; negative: all */
    int64_t right;                  /* keys after the query that it sees; negative: all */
    const int64_t* cu_seqlens;      /* documents + 1 ascending offsets starting at 0, or null for one endless
                                       document */
    int64_t documents;
    const int64_t* prefix_lengths;  /* one per document (exactly one where cu_seqlens is null), or null */
} flashring_mask;

/*
 * The score of a query at position i and a key at position j, in this order:
 *
 *     s = softmax_scale * q . k
 *     s = softcap * tanh(s / softcap)          where softcap > 0: Gemma 2 (Gemma Team 2024), section 2
 *     s = s - alibi_slopes[h] * |i - j|        where slopes are given: ALiBi (Press, Smith, Lewis 2022); positions
 *                                              are global
 *     p = exp(s) / (exp(sinks[h]) + sum exp(s))    the sum over the keys that the query sees; no first term without
 *                                                  sinks
 *
 * A sink is one more logit of a head, seen by every query, that has no value (gpt-oss, OpenAI 2025; Xiao et al. 2024).
 * It counts where a state begins, in the forward step without FLASHRING_RESUME, and is part of lse from there on: later
 * steps and backward steps do not look at sinks. Its gradient is
 *
 *     dsinks[h] = -sum over batch and queries of exp(sinks[h] - lse) * delta
 *
 * which flashring_delta leaves where dsinks is given, of the queries of its step: what other ranks leave is to be
 * added.
 */

/* What a cache holds (flashring_step.kv_dtype). */
typedef enum flashring_kv_dtype {
    FLASHRING_KV_OF_STEP = 0,       /* the step's dtype */
    FLASHRING_KV_FLOAT8_E4M3 = 1    /* e4m3 of the OCP 8-bit formats (Micikevicius et al. 2022): numbers to 448, NaN, no
                                       infinity */
} flashring_kv_dtype;

/*
 * One step: queries of this rank against one block of keys and values. Forward, delta and backward read the same
 * struct; each uses the operands named for it. `acc type` is float64 for float64 steps and float32 for all others.
 */
typedef struct flashring_step {
    uint32_t size;                  /* sizeof(flashring_step) */
    int32_t device;
    int32_t dtype;                  /* of q, k, v, out, dout */
    int32_t kernel;
    int32_t flags;
    int32_t deterministic;          /* backward: same bits on every run. CPU kernels always are */
    int64_t batch;
    int64_t q_len, kv_len;          /* 0 is allowed */
    int64_t q_heads, kv_heads;      /* q_heads is a multiple of kv_heads; query head h uses key head
                                       h / (q_heads / kv_heads) */
    int64_t head_dim, value_dim;
    double softmax_scale;           /* 1e-37 to 1e37; float64 steps: 1e-307 to 1e307. Scores, and on some kernels
                                       scale * q, must be finite in the acc type, else they are infinity or NaN */
    flashring_positions q_positions, kv_positions;
    flashring_mask mask;
    void* workspace;                /* 64-byte aligned; flashring_workspace_bytes() says how much */
    int64_t workspace_bytes;
    void* stream;                   /* cudaStream_t; null on the host */

    flashring_tensor q;             /* [batch, q_len, q_heads, head_dim]    dtype */
    flashring_tensor k;             /* [batch, kv_len, kv_heads, head_dim]  dtype */
    flashring_tensor v;             /* [batch, kv_len, kv_heads, value_dim] dtype */
    flashring_tensor out;           /* [batch, q_len, q_heads, value_dim]   dtype; forward writes it on FINISH, delta
                                       reads it */
    flashring_tensor acc;           /* as out, acc type; forward's running normalised output. May be `out` where the
                                       types agree */
    flashring_tensor lse;           /* [batch, q_len, q_heads] acc type, natural log; forward reads (RESUME) and
                                       writes, backward reads the global one */
    flashring_tensor dout;          /* as out,  dtype */
    flashring_tensor delta;         /* as lse; rowsum(out * dout), written by flashring_delta, read by backward */
    flashring_tensor dq;            /* as q, acc type */
    flashring_tensor dk;            /* as k, acc type */
    flashring_tensor dv;            /* as v, acc type */
    flashring_tensor lse_low;       /* as lse, or data null: what rounding took from lse between forward steps.
                                       Forward adds it to lse where it resumes, and writes it: over many steps
                                       (acc, lse) weighs the earlier keys as one step would */

    double softcap;                 /* bound of scores before ALiBi, in the range of softmax_scale; 0: none. MMA, WGMMA
                                       (from 0.001 on) and DECODE take up to 256, and have scores within 2^-21 of it;
                                       of larger ones AUTO makes REFERENCE */
    const void* sinks;              /* [q_heads] acc type, finite, or -inf for none; null: no head has one. Forward
                                       reads it unless it resumes, delta where it writes dsinks */
    const void* alibi_slopes;       /* [q_heads] acc type, finite and at least 0; null: no ALiBi. A distance is exact
                                       below 2^24, float64 steps: 2^53; times its slope it must be finite in the acc
                                       type */
    void* dsinks;                   /* [q_heads] acc type, or null; written by delta, in the same bits on every run */

    /*
     * Batch rows of their own lengths, and pages; forward alone. Where any of this is given, row b has n = q_lengths[b]
     * queries, the first of the tensor's q_len, and its cache holds L = kv_lengths[b] keys of at most kv_len. Key j
     * sits at position j and query i at L - n + i, so that the last query is beside the last key, below 0 where there
     * are more queries than keys. `left` and `right` of the mask go by these positions, as far as keys from
     * kv_begins[b] to L exist:
     *
     *     lo = left < 0 ? begin : max(begin, L - n + i - left)
     *     hi = right < 0 ? L : min(L, L - n + i + right + 1)
     *
     * q_positions and kv_positions are empty then, cu_seqlens, prefix_lengths and alibi_slopes null. Queries from n on
     * see nothing. What lies beyond L, before kv_begins[b] or otherwise outside what the queries of a row see is not
     * used, whatever it is, nor is the entry of a page that holds nothing else. Every call reads the values anew: a
     * captured graph serves whatever lengths are there when it is replayed. On the host a value that breaks its rule is
     * refused; on a device lengths and begins are clamped to their bounds, as are page numbers; an address that is
     * null, or not aligned to the elements, stands for zeros.
     */
    const int32_t* kv_lengths;      /* [batch] 0 to kv_len; null: kv_len of each */
    const int32_t* kv_begins;       /* [batch] 0 to the row's length; null: 0 of each */
    const int32_t* q_lengths;       /* [batch] 0 to q_len; null: q_len of each */

    /* Pages of page_size keys: key j of row b is in the row's page j / page_size, at j % page_size. By number: k and
       v are [pages, page_size, kv_heads, dim], and the table names the page. By address: each page is a buffer of
       its own, k and v give its strides and no data, k's stride_batch means nothing. Tables are
       [batch, page_table_stride], of which as many entries count as kv_len keys take. */
    const int32_t* page_table;      /* 0 to pages - 1; null: no pages, or by address */
    const void* const* k_pages;     /* the address of each page of k; null: no pages, or by number */
    const void* const* v_pages;
    int64_t page_size;              /* 0: no pages */
    int64_t pages;                  /* that k and v have; by address 0 */
    int64_t page_table_stride;      /* entries from one row of a table to the next */

    /* A cache dealt over shards: of each row's keys, page p is on shard p % shards, as its page p / shards there.
       kv_lengths (not null), kv_begins and what queries see count the keys of all shards; kv_len, whole pages, and
       tables are of this shard alone, and lengths may come to kv_len * shards. What the queries see of this shard's
       keys is the step: its state is one of those that flashring_merge makes a result of. Sinks, and a state that is
       resumed, are given to one of the shards alone: each that had them would count them again. */
    int64_t shard;                  /* 0 to shards - 1 */
    int64_t shards;                 /* 0 or 1: all keys are here; more: by number or by address, page_size at least 1 */

    /* What k and v hold: elements of the step's dtype, or each a byte that stands for its value times its head's scale.
       A step that has this has rows, as above, and dtype bfloat16 or float16. */
    int32_t kv_dtype;               /* flashring_kv_dtype */
    int32_t batch_invariant;        /* 1: forward gives a batch row the same bits whatever else is in the batch, however
                                       many rows it has, and whatever kv_len is: they follow from the row's own keys and
                                       queries, q_len, heads, dims, score and kernel. At some cost on CUDA's DECODE; all
                                       other kernels are so anyway */
    const float* k_scales;          /* [kv_heads] finite and above 0; null: 1 of each */
    const float* v_scales;
} flashring_step;

typedef enum flashring_direction { FLASHRING_FORWARD = 0, FLASHRING_BACKWARD = 1 } flashring_direction;

/*
 * Advances the running (acc, lse) by one block of keys: online softmax, FlashAttention-2 (Dao 2023) section 3.1, with
 * the state (O, LSE) read as (O, m = lse, l = 1), so that a ring needs no merge pass and O is rounded once.
 * 4 * head_dim * visible pairs * q_heads FLOPs when value_dim = head_dim.
 */
FLASHRING_API int32_t flashring_forward_step(const flashring_step* step);

/*
 * delta = rowsum(out * dout), once per backward pass: FlashAttention-2 section 3.2. Where dsinks is given, these too:
 * from sinks, and lse as forward finished it.
 */
FLASHRING_API int32_t flashring_delta(const flashring_step* step);

/*
 * Gradients through one block of keys, given the global lse and delta: dq gathers locally, dk and dv into the buffers
 * that travel. FlashAttention-2 section 3.2; 2.5 times the forward FLOPs.
 */
FLASHRING_API int32_t flashring_backward_step(const flashring_step* step);

/*
 * *bytes = workspace that a step of this kind and shape needs, whatever addresses its operands will have (they and
 * positions are not read).
 * Grows with q_len and kv_len, never with their product; monotone in kv_len. A step of fewer queries may go to another
 * kernel, and need more.
 */
FLASHRING_API int32_t flashring_workspace_bytes(const flashring_step* step, int32_t direction, int64_t* bytes);

/* dst = a + b elementwise over [batch, length, heads, dim], any dtypes, any strides; b.data null: a converting copy. */
typedef struct flashring_combine_args {
    uint32_t size;                  /* sizeof(flashring_combine_args) */
    int32_t device;
    int32_t dst_dtype, a_dtype, b_dtype;
    int32_t reserved;
    int64_t batch, length, heads, dim;
    flashring_tensor dst, a, b;     /* dst may be a or b when it has the same dtype and strides; else they do not
                                       overlap */
    void* stream;
} flashring_combine_args;

FLASHRING_API int32_t flashring_combine(const flashring_combine_args* args);

/*
 * Writes new keys and values into a cache, behind those that each batch row holds: token i of row b becomes key
 * kv_lengths[b] + i. What a row has no room for, or no page, is refused on the host, and is left out on a device, where
 * lengths are clamped. The cache's pages and shards are those of flashring_step; pages that get nothing are not looked
 * up, nor are those of other shards, whose tokens are left out.
 */
typedef struct flashring_append_args {
    uint32_t size;                  /* sizeof(flashring_append_args) */
    int32_t device;
    int32_t dtype;                  /* of new_k and new_v, and of k and v where kv_dtype is 0 */
    int32_t kv_dtype;               /* flashring_kv_dtype: k and v get what is new divided by its head's scale, rounded
                                       to nearest, ties to even, within 448; NaN stays NaN */
    int64_t batch, new_len;         /* 0 new tokens are allowed */
    int64_t kv_len;                 /* keys that a row of the cache has room for, at most 2^31 - 1 */
    int64_t kv_heads, head_dim, value_dim;
    flashring_tensor new_k;         /* [batch, new_len, kv_heads, head_dim] */
    flashring_tensor new_v;         /* [batch, new_len, kv_heads, value_dim] */
    flashring_tensor k, v;          /* the cache as flashring_step has it, pages included */
    const int32_t* kv_lengths;      /* [batch] keys that each row holds before the call */
    const int32_t* new_lengths;     /* [batch] 0 to new_len tokens of each row; null: new_len of each */
    int32_t* lengths_after;         /* [batch] gets the keys up to the first that has no page; may be kv_lengths;
                                       null: not wanted. Of a dealt cache each shard knows its own pages alone: what a
                                       row holds is the least over all shards */
    const int32_t* page_table;
    void* const* k_pages;
    void* const* v_pages;
    int64_t page_size, pages, page_table_stride;
    void* stream;
    int64_t shard, shards;          /* as flashring_step has them */
    const float* k_scales;          /* these, too */
    const float* v_scales;
} flashring_append_args;

FLASHRING_API int32_t flashring_append(const flashring_append_args* args);

/*
 * Makes one result of states over disjoint keys: out = sum exp(lse_s - lse) acc_s, lse = log sum exp(lse_s), added up
 * in their order: the same states give the same bits on every run on the host, and on every GPU of a kind; a host and
 * GPUs of other kinds may round otherwise. A state of lse -inf weighs nothing, whatever its acc; where all are, out is
 * 0 and lse -inf. Neither out nor lse may overlap a state.
 */
typedef struct flashring_merge_args {
    uint32_t size;                  /* sizeof(flashring_merge_args) */
    int32_t device;
    int32_t dtype;                  /* of out; acc and lse are of its acc type */
    int32_t reserved;
    int64_t states;                 /* at least 1 */
    int64_t state_stride;           /* elements from a state's acc to the next one's, and so of lse */
    int64_t batch, length, heads, dim;
    flashring_tensor acc;           /* of the first state: [batch, length, heads, dim] */
    flashring_tensor state_lse;     /* of the first state: [batch, length, heads] */
    flashring_tensor out;           /* as acc, dtype */
    flashring_tensor lse;           /* as state_lse, or data null: not wanted */
    void* stream;
} flashring_merge_args;

FLASHRING_API int32_t flashring_merge(const flashring_merge_args* args);

/*
 * *row = the row that will run the step; FLASHRING_UNSUPPORTED with the combination and the reason when none does.
 * Reads shape, dtype, device, kernel and flags, whether rows have lengths or pages of their own, softcap and whether
 * there are sinks and slopes, with slopes mask.right, whether there are prefixes and how many ranges of keys, and of
 * operands with an address that and the strides: so asked when work is planned it names the row for operands that suit
 * it, and asked again with all addresses the one that runs. It follows no address.
 */
FLASHRING_API int32_t flashring_select(const flashring_step* step, int32_t direction, int32_t* row);

#ifdef __cplusplus
}
#endif

#endif
