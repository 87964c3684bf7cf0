#!/usr/bin/env python3
"""Few new tokens against a long cache: forward steps beside cuDNN, FlashAttention-2 and a reader of the cache.

    decode_vs_cudnn.py libflashring.so [--json FILE] [--repeats N] [--only NAME,NAME] [--pages SIZE]
                                       [--before OTHER/libflashring.so] [--invariant]

Needs an NVIDIA GPU and PyTorch. Everything is bfloat16 and timed by CUDA events, the bodies taking turns; caches are
larger than the L2 cache, or as many as are together. Short caches are timed as one of 100 calls of a CUDA graph. First
each result is compared with float32 attention of PyTorch; where one is wrong the exit status is 1, whatever the speed.
With --pages the same cache also as rows with lengths of their own, and in shuffled pages of SIZE keys: with the same
bits. And as float8, in one piece and in pages. With --before the same calls by another build of the library;
with --invariant the first of them batch-invariant, too.
"""
import argparse
import ctypes as c
import json
import math
import sys

import torch
import triton
import triton.language as tl
from torch.nn.attention import SDPBackend, sdpa_kernel

from flashring_ctypes import FINISH, FORWARD, I64, FlashRing, Positions, Step, attach, empty, interleaved

# batch, cache, new tokens, query heads, key heads, head dim
LONG = {
    "A": (1, 131072, 1, 32, 8, 128), "B": (8, 32768, 1, 32, 8, 128), "C": (32, 8192, 1, 32, 8, 128),
    "D": (1, 131072, 16, 32, 8, 128), "E": (8, 32768, 4, 64, 8, 128), "F": (64, 4096, 1, 32, 32, 128),
    "A2": (1, 131072, 2, 32, 8, 128), "A4": (1, 131072, 4, 32, 8, 128), "A8": (1, 131072, 8, 32, 8, 128),
    "D64": (8, 32768, 1, 32, 8, 64), "D256": (8, 16384, 1, 32, 8, 256), "MQA": (8, 32768, 1, 16, 1, 128)}
SHORT = {f"{n}k": (1, n * 1024, 1, 32, 8, 128) for n in (1, 4, 16, 32)}
CALLS, FLUSHED = 100, 256 << 20


@triton.jit
def read_kernel(source, target, words, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.int32)
    for first in range(tl.program_id(0) * BLOCK, words, tl.num_programs(0) * BLOCK):
        total += tl.load(source + first + offsets, mask=first + offsets < words, other=0)
    tl.store(target + tl.program_id(0), tl.sum(total))


def reader(*tensors):
    target = torch.empty(132 * 8, dtype=torch.int32, device="cuda")
    flat = [t.view(torch.int32).view(-1) for t in tensors]

    def read():
        for t in flat:
            read_kernel[(132 * 8,)](t, target, t.numel(), BLOCK=4096, num_warps=8)
    return read


class Decode:
    """One call, and the tensors that it reads and writes."""

    def __init__(self, ring, b, s, n, hq, hk, d, kernel="auto"):
        draw = lambda *shape: torch.randn(shape, device="cuda", dtype=torch.bfloat16)
        self.q, self.k, self.v = draw(b, n, hq, d), draw(b, s, hk, d), draw(b, s, hk, d)
        self.ring = ring
        self.step = ring.step(self.q, self.k, self.v, [(s - n, n, 1)], [(0, s, 1)], 1 / math.sqrt(d), -1, 0,
                              kernel=kernel, directions=(FORWARD,))
        self.out, self.lse = empty(b, n, hq, d, dtype=torch.bfloat16), empty(b, n, hq, 1)
        attach(self.step, out=self.out, lse=self.lse)
        self.step.flags = FINISH
        self.kernel = ring.kernel_name(self.step, FORWARD)

    def __call__(self):
        self.ring.call("flashring_forward_step", c.byref(self.step))

    def peer(self, backend):
        q, k, v = (x.transpose(1, 2) for x in (self.q, self.k, self.v))

        def call():
            with sdpa_kernel(backend):
                torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])
        try:
            call()
        except RuntimeError as failure:
            print(f"{backend}: {str(failure).splitlines()[0]}", file=sys.stderr)
            return None
        return call

    def error(self, other=None):
        """Of this call; or of another one with the same queries over a cache that stands for (k, v)."""
        call, self_k, self_v = other or (self, self.k, self.v)
        call()
        b, n, hq, d = self.q.shape
        s, hk = self.k.shape[1:3]
        q = self.q.float().view(b, n, hk, hq // hk, d) / math.sqrt(d)
        worst = 0.0
        for row in range(b):
            scores = torch.einsum("nhgd,shd->hgns", q[row], self_k[row].float())
            hidden = torch.arange(s, device="cuda") > torch.arange(s - n, s, device="cuda")[:, None]
            scores.masked_fill_(hidden, -math.inf)
            out = torch.einsum("hgns,shd->nhgd", scores.softmax(-1), self_v[row].float()).reshape(n, hq, d)
            lse = scores.logsumexp(-1).permute(2, 0, 1).reshape(n, hq)
            worst = max(worst, ((call.out[row].float() - out).norm() / out.norm()).item(),
                        (call.lse[row, :, :, 0] - lse).abs().max().item() / 10)
        return worst


def by(ring, call, **fields):
    """The same call by a build of the library, with other fields of the step. It writes to the same places."""
    other = Step.from_buffer_copy(call.step)
    for name, value in fields.items():
        setattr(other, name, value)
    need = I64()
    ring.call("flashring_workspace_bytes", c.byref(other), FORWARD, c.byref(need))
    workspace = torch.empty(need.value, dtype=torch.uint8, device="cuda")
    other.workspace, other.workspace_bytes = workspace.data_ptr(), need.value
    other.keep = [workspace]
    return lambda: ring.call("flashring_forward_step", c.byref(other))


class Rows:
    """The same call over rows with lengths of their own, in pages where they have a size, of bytes with float8."""

    def __init__(self, one, size=0, float8=False):
        b, s = one.k.shape[:2]
        self.k, self.v = (x.to(torch.float8_e4m3fn) if float8 else x for x in (one.k, one.v))
        k, v = (x.view(torch.uint8) if float8 else x for x in (self.k, self.v))
        self.step, self.ring = Step.from_buffer_copy(one.step), one.ring
        self.step.keep = [one]
        self.step.q_positions = self.step.kv_positions = Positions(None, 0)
        self.out, self.lse = torch.empty_like(one.out), torch.empty_like(one.lse)
        attach(self.step, out=self.out, lse=self.lse)
        lengths = torch.full((b,), s, dtype=torch.int32, device="cuda")
        self.step.kv_lengths = lengths.data_ptr()
        self.step.keep.append(lengths)
        if size:
            table = torch.randperm(b * s // size, device="cuda")
            paged = [torch.empty_like(x).view(-1, size, *x.shape[2:]) for x in (k, v)]
            for pages, x in zip(paged, (k, v)):
                pages[table] = x.view(pages.shape)
            attach(self.step, k=paged[0], v=paged[1])
            numbers = table.int()
            self.step.keep.append(numbers)
            self.step.page_table, self.step.page_size = numbers.data_ptr(), size
            self.step.pages, self.step.page_table_stride = b * s // size, s // size
        else:
            attach(self.step, k=k, v=v)
        if float8:
            self.step.kv_dtype = 1
            self.step.keep += [self.k, self.v]
        need = I64()
        self.ring.call("flashring_workspace_bytes", c.byref(self.step), FORWARD, c.byref(need))
        workspace = torch.empty(need.value, dtype=torch.uint8, device="cuda")
        self.step.workspace, self.step.workspace_bytes = workspace.data_ptr(), need.value
        self.step.keep.append(workspace)
        one()
        self()
        self.same = one.error((self, self.k, self.v)) < 5e-3 if float8 else \
            torch.equal(self.out, one.out) and torch.equal(self.lse, one.lse)

    def __call__(self):
        self.ring.call("flashring_forward_step", c.byref(self.step))


def graph_micros(calls, repeats, ring=None, **fields):
    """Device time of one of the calls, each replay running all of them; by another build, with other fields."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls:
            call.step.stream = stream.cuda_stream
        calls = [by(ring, call, **fields) for call in calls] if ring else calls
        for call in calls:
            call()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for n in range(CALLS):
                calls[n % len(calls)]()
    return 1e3 / CALLS * interleaved({"ours": graph.replay}, repeats)["ours"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--json")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", default="")
    parser.add_argument("--pages", type=int, default=0)
    parser.add_argument("--before")
    parser.add_argument("--invariant", action="store_true")
    options = parser.parse_args()
    ring, lines, wrong = FlashRing(options.library), [], 0
    before = FlashRing(options.before) if options.before else None
    only = options.only.split(",") if options.only else [*LONG, *SHORT]
    if unknown := set(only) - {*LONG, *SHORT}:
        parser.error(f"--only: no {', '.join(sorted(unknown))} among {', '.join([*LONG, *SHORT])}")
    for name, shape in LONG.items():
        if name not in only:
            continue
        one = Decode(ring, *shape)
        error = one.error()
        wrong += not error < 5e-3
        bodies = {"ours": one, "read": reader(one.k, one.v), "FA2": one.peer(SDPBackend.FLASH_ATTENTION),
                  "cuDNN": one.peer(SDPBackend.CUDNN_ATTENTION)}
        if options.pages:
            own = {"rows": Rows(one), "pages": Rows(one, options.pages), "float8": Rows(one, 0, True),
                   "float8 pages": Rows(one, options.pages, True)}
            wrong += sum(not call.same for call in own.values())
            bodies.update(own)
        if options.invariant:
            bodies["invariant"] = by(ring, one, batch_invariant=1)
        if before:
            bodies.update({f"{who} before": by(before, body) for who, body in bodies.items() if hasattr(body, "step")})
        bodies = {who: body for who, body in bodies.items() if body}
        micros = {who: 1e3 * ms for who, ms in interleaved(bodies, options.repeats, 4).items()}
        lines.append({"shape": name, "sizes": shape, "kernel": one.kernel, "error": error, "micros": micros})
        size = 2 * one.k.numel() * 2
        print(f"{name:4s} {str(shape):32s} {one.kernel:7s} error {error:.1e}  " +
              "  ".join(f"{who} {us:7.1f}" for who, us in micros.items()) +
              f"  of reading {micros['ours'] / micros['read']:.3f},"
              f" {size / micros['ours'] * 1e-6:.2f} TB/s", flush=True)
        del one, bodies
        torch.cuda.empty_cache()
    for name, shape in SHORT.items():
        if name not in only:
            continue
        b, s, n, hq, hk, d = shape
        sets = max(1, FLUSHED // (b * s * hk * d * 4))
        calls = [Decode(ring, *shape) for _ in range(min(sets, CALLS))]
        error = calls[0].error()
        wrong += not error < 5e-3
        us = graph_micros(calls, options.repeats)
        if before:
            print(f"{name:4s} before {graph_micros(calls, options.repeats, before):6.2f} us", flush=True)
        if options.pages:
            paged = graph_micros([Rows(call, options.pages) for call in calls], options.repeats)
            print(f"{name:4s} in pages {paged:6.2f} us", flush=True)
        if options.invariant:
            invariant = graph_micros(calls, options.repeats, ring, batch_invariant=1)
            print(f"{name:4s} invariant {invariant:6.2f} us", flush=True)
        lines.append({"shape": name, "sizes": shape, "kernel": calls[0].kernel, "error": error, "micros": {"ours": us}})
        print(f"{name:4s} {str(shape):32s} {calls[0].kernel:7s} error {error:.1e}  "
              f"ours {us:6.2f} us a call among {CALLS} of a graph", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(lines, file, indent=1)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
