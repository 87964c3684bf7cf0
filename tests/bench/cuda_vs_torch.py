#!/usr/bin/env python3
"""FlashRing's CUDA kernels beside PyTorch's, in one process, through the C ABI alone (ctypes).

    cuda_vs_torch.py libflashring.so check [--seeds 500] [--from 1]   errors against float64, and the plain formula's
    cuda_vs_torch.py libflashring.so bench [--seq 16384]              milliseconds, TFLOP/s and ratios

check: outputs may be off by twice, gradients by three times what the plain formula in the same precision is off by.
bench: median of interleaved runs; FLOPs 4 B H S^2 D forward, 2.5 times that backward, half of it when causal. Backward
counts the delta kernel (and for PyTorch its whole autograd call).
"""
import argparse
import ctypes as c
import math
import random
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from flashring_ctypes import ADD_DQ, FINISH, RESUME, FlashRing, attach, empty, interleaved, positions, visible


# ---- check ----

def plain(q, k, v, seen, scale):
    """softmax(scale q k^T) v with every intermediate in q's dtype; rows that see nothing give 0."""
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale
    anything = seen.any(1)[:, None]
    scores = scores.masked_fill(~seen & anything, -math.inf)
    return torch.einsum("bhqk,bkhd->bqhd", torch.softmax(scores, -1) * anything, v)


def gradients(dtype, q, k, v, dout, seen, scale):
    q, k, v = (x.detach().to(dtype).requires_grad_() for x in (q, k, v))
    out = plain(q, k, v, seen, scale)
    return [out.detach()] + list(torch.autograd.grad(out, (q, k, v), dout.to(dtype)))


def draw_ranges(r, n):
    kind = r.randrange(4)
    if kind == 0:
        return [(r.randint(0, n), n, 1)]
    if kind == 1:
        head, start = n // 2, r.randint(0, n)
        return [(start, head, 1), (start + head + r.randint(0, 2 * n), n - head, 1)]
    return [(r.randint(0, 3), n, r.randint(2, 4))] if kind == 2 else [(0, n, 1)]


def split(ranges, at):
    first, second = [], []
    for start, n, stride in ranges:
        k = max(0, min(at, n))
        first.append((start, k, stride))
        second.append((start + k * stride, n - k, stride))
        at -= k
    return first, second


def check_case(ring, seed):
    r = random.Random(seed)
    torch.manual_seed(seed)
    dtype = r.choice([torch.bfloat16, torch.float16])
    d, dv = r.choice([(64, 64), (96, 96), (128, 128), (192, 128), (192, 192), (256, 256), (40, 40), (80, 128),
                      (17, 33)])
    sq = r.choice([1, 7, 64, 127, 128, 129, 200, 511, 777, 1000])
    sk = sq if r.random() < 0.6 else r.choice([1, 63, 100, 257, 640, 1100])
    hk, group, b = r.randint(1, 2), r.randint(1, 3), r.randint(1, 2)
    q_ranges = draw_ranges(r, sq)
    kv_ranges = q_ranges if sq == sk and r.random() < 0.6 else draw_ranges(r, sk)
    right, left = (r.choice([0, 0, 0, 50]) if r.random() < 0.7 else -1), (r.randint(0, 300) if r.random() < 0.3 else -1)
    documents = prefixes = None
    if r.random() < 0.4:
        documents = [0]
        while documents[-1] < 2 * sq and len(documents) < 12:
            documents.append(documents[-1] + r.randint(0, 400))
    if r.random() < 0.25:
        prefixes = [r.randint(0, 300) for _ in range(len(documents) - 1 if documents else 1)]
    shape = (f"{str(dtype)[6:]} B{b} Sq{sq} Sk{sk} H{hk * group}/{hk} D{d}/{dv} left {left} right {right}"
             f" documents {documents} prefixes {prefixes}")

    def rows(n, h, w):  # BSHD, BHSD, or rows that do not start on 16 bytes
        order = r.randrange(3)
        if order == 1:
            return torch.randn(b, h, n, w, device="cuda").to(dtype).transpose(1, 2)
        return torch.randn(b, n, h, w + 3 * (order == 2), device="cuda").to(dtype)[..., :w]
    q, k, v, dout = rows(sq, hk * group, d), rows(sk, hk, d), rows(sk, hk, dv), rows(sq, hk * group, dv)
    scale = 1 / math.sqrt(d)
    out, acc, lse, delta = empty(b, sq, hk * group, dv, dtype=dtype), empty(b, sq, hk * group,
                                                                            dv), empty(b, sq, hk * group,
                                                                                       1), empty(b, sq, hk * group, 1)
    dq, dk, dv_ = empty(b, sq, hk * group, d), empty(b, sk, hk, d), empty(b, sk, hk, dv)
    at = r.choice([0, sk, r.randint(0, sk)])
    halves = list(zip(split(kv_ranges, at), (slice(0, at), slice(at, sk))))
    for n, (ranges, part) in enumerate(halves):
        s = ring.step(q, k[:, part], v[:, part], q_ranges, ranges, scale, left, right, documents, prefixes)
        attach(s, out=out, acc=acc, lse=lse)
        s.flags = (RESUME if n else 0) | (FINISH if n else 0)
        ring.call("flashring_forward_step", c.byref(s))
    for n, (ranges, part) in enumerate(halves):
        s = ring.step(q, k[:, part], v[:, part], q_ranges, ranges, scale, left, right, documents, prefixes,
                      seed % 4 == 0)
        attach(s, out=out, lse=lse, delta=delta, dout=dout, dq=dq, dk=dk[:, part], dv=dv_[:, part])
        if n == 0:
            ring.call("flashring_delta", c.byref(s))
        s.flags = ADD_DQ if n else 0
        ring.call("flashring_backward_step", c.byref(s))

    seen = visible(positions(q_ranges), positions(kv_ranges), left, right, documents, prefixes)
    exact = gradients(torch.float64, q, k, v, dout, seen, scale)
    rounded = gradients(dtype, q, k, v, dout, seen, scale)
    worst = []
    for name, ours, reference, low, times in zip(("out", "dq", "dk", "dv"), (out, dq, dk, dv_), exact, rounded,
                                                 (2, 3, 3, 3)):
        error = (ours.double() - reference).abs().max().item()
        bound = times * (low.double() - reference).abs().max().item() + 5e-5 * max(1.0, reference.abs().max().item())
        worst.append(error / bound)
        if not error <= bound:
            print(f"FAILED check --from {seed} --seeds 1: {shape}: {name} is off by {error:.3g}, allowed {bound:.3g}")
            return False, worst
    empty_rows = ~seen.any(1)
    ok = bool((lse[:, empty_rows] == -math.inf).all() and (out[:, empty_rows] == 0).all()
              and (dq[:, empty_rows] == 0).all())
    if not ok:
        print(f"FAILED check --from {seed} --seeds 1: {shape}: a query that sees nothing must give 0, -inf, 0")
    return ok, worst


def check(ring, seeds, first):
    failed, worst = 0, [0.0] * 4
    for seed in range(first, first + seeds):
        ok, ratios = check_case(ring, seed)
        failed += not ok
        worst = [max(a, b) for a, b in zip(worst, ratios)]
        if failed > 10:
            break
    print(f"check: {seeds} cases, {failed} failed; largest error over what is allowed: "
          + ", ".join(f"{n} {w:.2f}" for n, w in zip(("out", "dq", "dk", "dv"), worst)), flush=True)
    return failed == 0


# ---- bench ----

def bench_shape(ring, b, s, hq, hk, d, causal, dtype=torch.bfloat16, deterministic=0):
    q, dout = (torch.randn(b, s, hq, d, device="cuda").to(dtype) for _ in range(2))
    k, v = (torch.randn(b, s, hk, d, device="cuda").to(dtype) for _ in range(2))
    scale = 1 / math.sqrt(d)
    step = ring.step(q, k, v, [(0, s, 1)], [(0, s, 1)], scale, -1, 0 if causal else -1, deterministic=deterministic)
    out, lse, delta = empty(b, s, hq, d, dtype=dtype), empty(b, s, hq, 1), empty(b, s, hq, 1)
    attach(step, out=out, lse=lse, delta=delta, dout=dout, dq=empty(b, s, hq, d), dk=empty(b, s, hk, d),
           dv=empty(b, s, hk, d))

    def forward():
        step.flags = FINISH
        ring.call("flashring_forward_step", c.byref(step))

    def backward():
        step.flags = 0
        ring.call("flashring_delta", c.byref(step))
        ring.call("flashring_backward_step", c.byref(step))

    tq, tk, tv, tdout = (x.transpose(1, 2) for x in (q, k, v, dout))
    peers = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
    forwards, backwards, errors = {"ours": forward}, {"ours": backward}, {}
    for name, backend in peers.items():
        def peer(backend=backend, grad=False):
            with sdpa_kernel(backend):
                inputs = [x.detach().requires_grad_() for x in (tq, tk, tv)] if grad else (tq, tk, tv)
                return torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=causal,
                                                                        enable_gqa=hq != hk), inputs
        forwards[name] = peer
        result, inputs = peer(grad=True)
        backwards[name] = lambda result=result, inputs=inputs: torch.autograd.grad(result, inputs, tdout,
                                                                                   retain_graph=True)
        if name == "flash":
            forward(), backward()
            theirs = [result.detach()] + list(backwards[name]())
            errors = [(a.float() - b.transpose(1, 2).float()).norm().item() / b.float().norm().item() for a,
                      b in zip(step.keep[-7:-6] + step.keep[-3:], theirs)]
    f, w = interleaved(forwards, repeats=12), interleaved(backwards, repeats=12)
    flops = 4.0 * b * hq * s * s * d * (0.5 if causal else 1)
    rate = lambda t, times: {n: times * flops / x * 1e-9 for n, x in t.items()}
    rf, rw = rate(f, 1), rate(w, 2.5)
    print(f"B{b} H{hq}/{hk} S{s} D{d:<3} {'causal' if causal else 'full  '}{' det' if deterministic else ''}  "
          f"fwd {f['ours']:8.3f} ms ours {rf['ours']:5.0f} flash {rf['flash']:5.0f} cudnn {rf['cudnn']:5.0f} ratio "
          f"{rf['ours'] / rf['flash']:.2f}   "
          f"bwd {w['ours']:8.3f} ms ours {rw['ours']:5.0f} flash {rw['flash']:5.0f} cudnn {rw['cudnn']:5.0f} ratio "
          f"{rw['ours'] / rw['flash']:.2f}   "
          f"off flash by {max(errors):.1e} of the norm", flush=True)


def bench(ring, s, short):
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    for d, heads in ((64, 32), (128, 16)):
        for causal in (False, True):
            bench_shape(ring, 1, s, heads, heads, d, causal)
    if short:
        return
    for d, heads in ((96, 16), (256, 8)):
        bench_shape(ring, 1, s, heads, heads, d, True)
    bench_shape(ring, 1, s, 32, 8, 128, True)
    bench_shape(ring, 4, 4096, 16, 16, 128, True)
    bench_shape(ring, 16, 1024, 16, 16, 128, True)
    bench_shape(ring, 1, s, 16, 16, 128, True, deterministic=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("what", choices=["check", "bench"])
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--from", type=int, default=1, dest="first")
    parser.add_argument("--seq", type=int, default=16384)
    parser.add_argument("--short", action="store_true", help="bench: head dims 64 and 128 alone")
    options = parser.parse_args()
    library = FlashRing(options.library)
    if options.what == "check":
        sys.exit(0 if check(library, options.seeds, options.first) else 1)
    bench(library, options.seq, options.short)
