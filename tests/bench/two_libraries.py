#!/usr/bin/env python3
"""Two builds of the library in one process, calls in turns: how much faster the second is than the first.

    two_libraries.py OLD/libflashring.so NEW/libflashring.so [--kernel auto] [--blocks 24] [--json FILE]

Each line is the median over blocks of the ratio of rates within the block (new over old; above 1 the second is faster),
with the quartiles beside it: clocks drift from block to block, and hardly within one. Inputs are random normal numbers,
bfloat16. Bits of the two are compared as well.
"""
import argparse
import ctypes as c
import json
import math
import statistics

import torch

from flashring_ctypes import FINISH, FlashRing, attach, empty

SHAPES = [  # batch, q heads, kv heads, tokens, dim, causal
    (16, 32, 32, 1024, 64, True), (4, 32, 32, 4096, 64, True), (1, 32, 32, 16384, 64, True),
    (1, 32, 32, 16384, 64, False),
    (16, 16, 16, 1024, 128, True), (4, 16, 16, 4096, 128, True), (1, 16, 16, 16384, 128, True),
    (1, 16, 16, 16384, 128, False),
    (1, 32, 8, 16384, 128, True), (1, 16, 16, 16384, 96, True), (4, 8, 8, 4096, 256, True),
    (1, 8, 8, 16384, 256, False)]
BURST_MILLIS = 4


def calls(ring, kernel, q, k, v, dout, causal):
    """Forward, and delta with backward, and what they write."""
    b, s, h, d = q.shape
    step = ring.step(q, k, v, [(0, s, 1)], [(0, s, 1)], 1 / math.sqrt(d), -1, 0 if causal else -1, kernel=kernel)
    made = dict(out=empty(b, s, h, d, dtype=q.dtype), lse=empty(b, s, h, 1), delta=empty(b, s, h, 1), dout=dout,
                dq=empty(b, s, h, d),
                dk=empty(*k.shape), dv=empty(*v.shape))
    attach(step, **made)

    def forward():
        step.flags = FINISH
        ring.call("flashring_forward_step", c.byref(step))

    def backward():
        step.flags = 0
        ring.call("flashring_delta", c.byref(step))
        ring.call("flashring_backward_step", c.byref(step))

    return {"forward": forward, "backward": backward}, made


def ratios(old, new, blocks):
    def millis(body, count):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(count):
            body()
        stop.record()
        return start, stop

    for body in (old, new):
        body()
    torch.cuda.synchronize()
    a, b = millis(old, 3)
    torch.cuda.synchronize()
    count = max(1, round(BURST_MILLIS / (a.elapsed_time(b) / 3)))
    pairs = []
    for block in range(blocks + 2):
        order = (old, new) if block % 2 else (new, old)
        times = {body: millis(body, count) for body in order}
        pairs.append((times[old], times[new]))
    torch.cuda.synchronize()
    each = [(x[0].elapsed_time(x[1]) / count, y[0].elapsed_time(y[1]) / count) for x, y in pairs[2:]]
    return [x / y for x, y in each], statistics.median(y for _, y in each)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--kernel", default="auto")
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--passes", default="forward,backward")
    parser.add_argument("--shapes", default="", help="only lines whose name contains this")
    parser.add_argument("--json")
    options = parser.parse_args()
    rings = FlashRing(options.old), FlashRing(options.new)
    torch.manual_seed(0)
    rows = []
    for shape in SHAPES:
        b, hq, hk, s, d, causal = shape
        label = f"{b:2d} x {hq}/{hk} heads {s:6d} D{d:<3d} {'causal' if causal else 'full  '}"
        if options.shapes not in label:
            continue
        q, dout = (torch.randn(b, s, hq, d, device="cuda").bfloat16() for _ in range(2))
        k, v = (torch.randn(b, s, hk, d, device="cuda").bfloat16() for _ in range(2))
        (old, old_made), (new, new_made) = (calls(ring, options.kernel, q, k, v, dout, causal) for ring in rings)
        for made in (old, new):
            made["forward"]()  # which leaves what backward reads
        for name in options.passes.split(","):
            each, millis = ratios(old[name], new[name], options.blocks)
            low, middle, high = statistics.quantiles(each, n=4)
            flops = (4 if name == "forward" else 10) * b * hq * s * s * d / (2 if causal else 1)
            off = max(((new_made[t].float() - old_made[t].float()).norm() / old_made[t].float().norm()).item()
                      for t in (("out",) if name == "forward" else ("dq", "dk", "dv")))
            rows.append({"shape": shape, "pass": name, "median": middle, "quartiles": [low, high],
                         "tflops": flops / millis * 1e-9, "off": off})
            print(f"{label} {name:8s} {middle:.3f} [{low:.3f}, {high:.3f}]"
                  f"  {rows[-1]['tflops']:.0f} TFLOP/s, differ by {off:.1e}", flush=True)
    print("smallest ratio", min(r["median"] for r in rows))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
