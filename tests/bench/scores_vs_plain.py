#!/usr/bin/env python3
"""What softcap, sinks and ALiBi cost: rates of steps with them over those of plain ones, calls in turns.

    scores_vs_plain.py libflashring.so [--repeats N] [--only TEXT] [--json FILE]

Needs an NVIDIA GPU and PyTorch. bfloat16, random normal numbers; slopes are those of 2^(-8 h / heads). Each number is
the median time of plain calls over the median time of the others: 1 is as fast.
"""
import argparse
import ctypes as c
import json
import math

import torch

from flashring_ctypes import BACKWARD, FINISH, FORWARD, I64, FlashRing, attach, empty, interleaved

SHAPES = {  # batch, q heads, kv heads, tokens, dim, window (0: none)
    "D64 4k": (4, 32, 8, 4096, 64, 0), "D64 16k window 128": (1, 64, 8, 16384, 64, 128),
    "D128 4k": (4, 16, 16, 4096, 128, 0), "D128 16k": (1, 32, 8, 16384, 128, 0),
    "D256 4k": (4, 8, 4, 4096, 256, 0), "D256 16k": (1, 8, 4, 16384, 256, 0)}


def calls(ring, q, k, v, dout, window, score):
    """Forward and backward of one step, and the kernels that run them."""
    b, s, h, d = q.shape
    step = ring.step(q, k, v, [(0, s, 1)], [(0, s, 1)], 1 / math.sqrt(d), window - 1 if window else -1, 0,
                     kernel="auto")
    attach(step, out=empty(b, s, h, d, dtype=q.dtype), lse=empty(b, s, h, 1), delta=empty(b, s, h, 1), dout=dout,
           dq=empty(b, s, h, d), dk=empty(*k.shape), dv=empty(*v.shape))
    if score == "softcap":
        step.softcap = 50
    elif score != "plain":
        slopes = 2.0 ** (-8 * torch.arange(1, h + 1, device="cuda") / h)
        numbers = torch.randn(h, device="cuda") if score == "sinks" else slopes
        step.keep.append(numbers)
        setattr(step, "sinks" if score == "sinks" else "alibi_slopes", numbers.data_ptr())
    need = I64()
    for direction in (FORWARD, BACKWARD):  # with positions, where there is ALiBi
        ring.call("flashring_workspace_bytes", c.byref(step), direction, c.byref(need))
        if need.value > step.workspace_bytes:
            step.keep.append(torch.empty(need.value, dtype=torch.uint8, device="cuda"))
            step.workspace, step.workspace_bytes = step.keep[-1].data_ptr(), need.value

    def forward():
        step.flags = FINISH
        ring.call("flashring_forward_step", c.byref(step))

    def backward():
        step.flags = 0
        ring.call("flashring_backward_step", c.byref(step))

    forward()
    step.flags = 0
    ring.call("flashring_delta", c.byref(step))
    return forward, backward, [ring.kernel_name(step, direction) for direction in (FORWARD, BACKWARD)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    options = parser.parse_args()
    ring, lines = FlashRing(options.library), []
    for name, (b, h, hk, s, d, window) in SHAPES.items():
        if options.only not in name:
            continue
        draw = lambda heads: torch.randn(b, s, heads, d, device="cuda", dtype=torch.bfloat16)
        tensors = draw(h), draw(hk), draw(hk), draw(h)
        made = {score: calls(ring, *tensors, window, score) for score in ("plain", "softcap", "sinks", "alibi")}
        for direction, at in (("forward", 0), ("backward", 1)):
            millis = interleaved({score: call[at] for score, call in made.items()}, options.repeats, 2)
            rates = {score: millis["plain"] / ms for score, ms in millis.items() if score != "plain"}
            kernels = {score: call[2][at] for score, call in made.items()}
            lines.append({"shape": name, "direction": direction, "millis": millis, "kernels": kernels})
            print(f"{name:20s} {direction:8s} plain {millis['plain']:7.3f} ms {kernels['plain']:5s}  " +
                  "  ".join(f"{score} {rate:.3f} {kernels[score]}" for score, rate in rates.items()), flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(lines, file, indent=1)


if __name__ == "__main__":
    main()
