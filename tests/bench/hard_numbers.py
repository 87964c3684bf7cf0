#!/usr/bin/env python3
"""Numbers that break attention kernels: errors of ours, FlashAttention-2 and cuDNN against float64, on the same inputs.

    hard_numbers.py libflashring.so [--json FILE] [--dims 64,128] [--verbose]

Needs an NVIDIA GPU and PyTorch with both peers. Large common offsets, single keys, equal keys, one-hot rows, rising
rows, peaked rows, scores near overflow, denormal values and scales far from 1; forward in one step and resumed in 2, 4
and 7; the kernels that AUTO takes, wgmma, mma and the reference by name. An error is the norm of the difference over
that of the truth, or over the natural size of the tensor (|v|, |dout| |v| |k| scale, ...) where the truth all but
vanishes: there a relative error says nothing.

The bar: finite, and at most 1.2 times the worse of the two peers' errors, or as small as a rounding of the result to
its type. The exit status is 1 where a row misses it.
"""
import argparse
import ctypes as c
import json
import math
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from flashring_ctypes import ADD_DQ, BACKWARD, FINISH, FORWARD, RESUME, FlashRing, attach, empty

FACTOR = 1.2
ROUNDING = {torch.bfloat16: 2.0 ** -9, torch.float16: 2.0 ** -12, torch.float32: 2.0 ** -22}
TENSORS = ("out", "dq", "dk", "dv")
VANISHES = 1e-3  # of the natural size


def exact(q, k, v, dout, scale, causal):
    q, k, v = (x.double().requires_grad_() for x in (q, k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool, device="cuda").tril(), -math.inf)
    out = torch.einsum("bhqk,bkhd->bqhd", torch.softmax(scores, -1), v)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), dout.double())]


def ours(ring, kernel, steps, q, k, v, dout, scale, causal):
    (b, s, h, d), n = q.shape, k.shape[1]
    out, acc, lse, delta = empty(b, s, h, d, dtype=q.dtype), empty(b, s, h, d), empty(b, s, h, 1), empty(b, s, h, 1)
    dq, dk, dv = empty(b, s, h, d), empty(b, n, h, d), empty(b, n, h, d)
    cuts = [n * i // steps for i in range(steps + 1)]
    low = {"lse_low": empty(b, s, h, 1)} if steps > 1 else {}
    made = []
    for first, last in zip(cuts, cuts[1:]):
        part = slice(first, last)
        step = ring.step(q, k[:, part], v[:, part], [(0, s, 1)], [(first, last - first, 1)], scale, -1,
                         0 if causal else -1, kernel=kernel)
        attach(step, out=out, acc=acc, lse=lse, delta=delta, dout=dout, dq=dq, dk=dk[:, part], dv=dv[:, part], **low)
        step.flags = (RESUME if first else 0) | (FINISH if last == n else 0)
        ring.call("flashring_forward_step", c.byref(step))
        made.append(step)
    for i, step in enumerate(made):
        step.flags = 0
        if i == 0:
            ring.call("flashring_delta", c.byref(step))
        step.flags = ADD_DQ if i else 0
        ring.call("flashring_backward_step", c.byref(step))
    return [out, dq, dk, dv], [ring.kernel_name(made[0], direction) for direction in (FORWARD, BACKWARD)]


def peers(backend, q, k, v, dout, scale, causal):
    leaves = [x.transpose(1, 2).detach().requires_grad_() for x in (q, k, v)]
    with sdpa_kernel(backend):
        out = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal, scale=scale)
    return [x.detach().transpose(1, 2) for x in (out, *torch.autograd.grad(out, leaves, dout.transpose(1, 2)))]


def errors(actual, truth, sizes):
    found = {}
    for name, a, t in zip(TENSORS, actual, truth):
        norm = t.norm().item()
        off = (a.double() - t).norm().item() / (norm if norm > VANISHES * sizes[name] else sizes[name])
        found[name] = off if math.isfinite(off) else math.inf
    return found


def normal(*shape):
    return torch.randn(*shape, device="cuda")


def cases(dims, dtype):
    """(name, q, k, v, dout, scale or None, causal)"""
    for d in dims:
        for offset in (100, 1000, 10000):
            q, k, v, dout = (normal(1, 512, 2, d) for _ in range(4))
            q[..., 0] = k[..., 0] = math.sqrt(offset * math.sqrt(d))
            yield f"D{d} common offset {offset}", q, k, v, dout, None, True
        q, k, v, dout = (normal(1, 512, 2, d) for _ in range(4))
        q[..., d // 2], k[..., d // 2] = math.sqrt(2000 * math.sqrt(d)), -math.sqrt(2000 * math.sqrt(d))
        yield f"D{d} common offset -2000", q, k, v, dout, None, True
        for m in (1, 30, 100, 300, 1000, 10000, 30000):
            h = 64  # heads, that errors be averages
            one = torch.full((1, 1, h, d), float(m), device="cuda")
            yield f"D{d} one token of {m}", one, one, normal(1, 1, h, d), normal(1, 1, h, d), None, True
            yield f"D{d} one token against {m}", one, -one, normal(1, 1, h, d), normal(1, 1, h, d), None, True
            grown = one * (1 + 0.1 * torch.arange(5, device="cuda")).view(1, 5, 1, 1)
            equal = one.expand(1, 5, h, d).contiguous()
            yield f"D{d} equal keys of {m}", grown, equal, normal(1, 5, h, d), normal(1, 5, h, d), None, False
        for rise in (0.5, 2, 4, 7.9, 8.1, 20):
            q, k = normal(1, 1024, 2, d) * 0.05, normal(1, 1024, 2, d) * 0.05
            q[..., 0] += 4
            blocks = (torch.arange(1024, device="cuda") // 128)[None, :, None]
            k[..., 0] += blocks * rise * math.log(2) * math.sqrt(d) / 4
            yield f"D{d} rising by {rise}", q, k, normal(1, 1024, 2, d), normal(1, 1024, 2, d), None, True
        q, k, v, dout = (normal(1, 1024, 2, d) for _ in range(4))
        for factor in (5, 30, 300):
            yield f"D{d} peaked, scale x {factor}", q, k, v, dout, factor / math.sqrt(d), True
        yield f"D{d} one-hot rows", torch.eye(d, device="cuda").repeat(4, 1)[None, :, None].contiguous() * 40, \
            torch.eye(d, device="cuda").repeat(4, 1)[None, :, None].contiguous() * 40, normal(1, 4 * d, 1,
                                                                                              d), normal(1, 4 * d, 1,
                                                                                                         d), None, False
        q, k, v, dout = (normal(1, 300, 2, d) for _ in range(4))
        for scale in (1e-30, 1e-6, 1e3):
            yield f"D{d} scale {scale:g}", q, k, v, dout, scale, True
        yield f"D{d} large queries, scale 1e-8", q * 1e4, k * 1e4, v, dout, 1e-8 / math.sqrt(d), True
        if dtype != torch.float16:
            yield f"D{d} near overflow", q * 1e17, k * 1e17, v, dout, 1 / math.sqrt(d), True
            yield f"D{d} small values", q, k, v * 1e-30, dout * 1e-5, None, True
        yield f"D{d} denormal values", q, k, v * (1e-39 if dtype == torch.bfloat16 else 1e-6), dout, None, True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library")
    parser.add_argument("--json")
    parser.add_argument("--dims", default="64,128,256")
    parser.add_argument("--verbose", action="store_true", help="print every row, not the misses alone")
    options = parser.parse_args()
    ring = FlashRing(options.library)
    rows, missed = [], 0
    for dtype in (torch.bfloat16, torch.float16):
        torch.manual_seed(1)
        for name, q, k, v, dout, scale, causal in cases([int(d) for d in options.dims.split(",")], dtype):
            q, k, v, dout = (x.to(dtype) for x in (q, k, v, dout))
            if not all(x.isfinite().all() for x in (q, k)):
                continue  # beyond the type
            scale = scale or 1 / math.sqrt(q.shape[-1])
            truth = exact(q, k, v, dout, scale, causal)
            size = lambda x: x.double().norm().item()
            rows_of = max(q.shape[1] / k.shape[1], 1) ** 0.5
            sizes = {"out": size(v), "dq": size(dout) * size(v) * size(k) * scale,
                     "dk": size(dout) * size(v) * size(q) * scale,
                     "dv": size(dout) * rows_of}
            theirs = {}
            for peer, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
                try:
                    theirs[peer] = errors(peers(backend, q, k, v, dout, scale, causal), truth, sizes)
                except RuntimeError as e:
                    theirs[peer] = {"refused": str(e)[:60]}
            served = [e for e in theirs.values() if "refused" not in e]
            runs = [("auto", 1), ("mma", 1), ("reference", 1)] + [("auto", n) for n in (2, 4, 7) if k.shape[1] >= n]
            for kernel, steps in runs:
                actual, names = ours(ring, kernel, steps, q, k, v, dout, scale, causal)
                found = errors(actual, truth, sizes)
                bars = {t: max([FACTOR * e[t] for e in served] + [ROUNDING[dtype]]) for t in TENSORS}
                over = [t for t in TENSORS if not found[t] <= bars[t]]
                missed += bool(over)
                label = f"{names[0]}/{names[1]}" + (f" x{steps}" if steps > 1 else "")
                rows.append({"case": name, "dtype": str(dtype)[6:], "kernel": label, "errors": found, "peers": theirs,
                             "missed": over})
                if over or options.verbose:
                    print(f"{name:32s} {str(dtype)[6:]:8s} {label:16s} "
                          + " ".join(f"{t} {found[t]:.1e}" for t in TENSORS)
                          + ("   MISSED " + " ".join(over) if over else ""))
                    for peer, e in theirs.items():
                        print(f"{'':42s}{peer:16s} "
                              + (e["refused"] if "refused" in e else " ".join(f"{t} {e[t]:.1e}" for t in TENSORS)),
                              flush=True)
    print(f"{len(rows)} rows, {missed} missed")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
