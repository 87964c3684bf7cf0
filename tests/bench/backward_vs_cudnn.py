#!/usr/bin/env python3
"""The backward kernels beside cuDNN's and other builds of this library, in one process, through the C ABI alone
(ctypes).

    backward_vs_cudnn.py libflashring.so [--beside NAME=LIBRARY ...] [--json FILE] [--only TEXT ...] [--repeats N]
                                         [--kernels] [--no-check]

Needs an NVIDIA GPU that cuDNN's attention serves and PyTorch with it. First results are checked (backward_check.py);
where any is wrong the exit status is 1, whatever the speed. Then every line is the median of interleaved bursts of
calls on random normal inputs, after a warm-up. A call of ours is delta and the backward step, and gives float32
gradients; cuDNN's is autograd's whole backward call. FLOPs are 6 per visible pair, head and dim of its keys, and 4 per
dim of its values, a causal mask hiding half of all pairs. Ratios above 1 say that this library is faster; a bar has a
goal and a floor, or one number that is both.

    attention           beside cuDNN
    forward + backward  beside cuDNN's two calls; float32 out of the forward pass is nobody's
    burst               beside cuDNN, on a GPU that idled: the last 5 of 10 calls, each after a sweep of the L2 cache
    window              beside FlashAttention-2
    deterministic       beside a call that is not
    ring step           dq, dk and dv added to what is there, zigzag positions, beside a plain call over as many pairs
    documents           per visible pair, beside one causal sequence as long
    gather              what a rank of eight computes in a gather, beside what it computes in a ring (rank_of_eight.py)
"""
import argparse
import ctypes as c
import json
import math
import random
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from backward_check import check
from flashring_ctypes import ADD_DKV, ADD_DQ, BACKWARD, FINISH, FlashRing, attach, empty, interleaved
from rank_of_eight import RankOfEight

BF16, FP16 = torch.bfloat16, torch.float16
BURST_MILLIS, WARM_UP_MILLIS = 6, 60
ASSUMED_RATE = 400e9  # FLOPs a millisecond, to size bursts
IDLE_SECONDS = 0.5    # before a short burst, so that it meets the clocks of a cool GPU
SWEEP_BYTES = 256 << 20
WINDOW_ERROR = 2e-2   # of the norm of dq: as far as two kernels may differ that mean the same window


@dataclass
class Line:
    """One measurement: milliseconds of a call by whom, and TFLOP/s."""
    shape: str
    kernel: str
    beside: str  # whose rate the ratio is over
    millis: dict
    tflops: dict
    ratio: float
    goal: float
    floor: float
    others: dict = field(default_factory=dict)  # by the name of another build, how much faster this one is

    def verdict(self):
        return "goal" if self.ratio >= self.goal else "floor" if self.ratio >= self.floor else "missed"

    def markdown(self):
        others = " ".join(f"{name} x{ratio:.3f}" for name, ratio in self.others.items())
        return (f"| {self.shape} | {self.kernel} | {self.millis['ours']:.3f} | {self.tflops['ours']:.0f} | "
                f"{self.beside} {self.tflops['theirs']:.0f} | "
                f"{self.ratio:.3f} | {self.goal:.2f} ({self.floor:.2f}) | {self.verdict()} | {others} |")


class Gradients:
    """Delta and a backward step over queries and keys [batch, tokens, heads, dim]; forward has run."""

    def __init__(self, ring, q, k, v, dout, causal, q_ranges=None, kv_ranges=None, documents=None, flags=0,
                 deterministic=0, window=0):
        (b, sq, hq, d), (_, sk, hk, dv) = q.shape, v.shape
        self.ring, self.flags = ring, flags
        q_ranges, kv_ranges = q_ranges or [(0, sq, 1)], kv_ranges or [(0, sk, 1)]
        left, right = window - 1, 0 if causal else -1
        self.step = ring.step(q, k, v, q_ranges, kv_ranges, 1 / math.sqrt(d), left, right, documents,
                              deterministic=deterministic)
        make = torch.zeros if flags else torch.empty
        self.dq, self.dk, self.dv = (make(*shape, device="cuda")
                                     for shape in ((b, sq, hq, d), (b, sk, hk, d), (b, sk, hk, dv)))
        attach(self.step, out=empty(b, sq, hq, dv, dtype=q.dtype), lse=empty(b, sq, hq, 1), delta=empty(b, sq, hq, 1),
               dout=dout, dq=self.dq,
               dk=self.dk, dv=self.dv)
        self.kernel = ring.kernel_name(self.step, BACKWARD)
        self.forward()

    def forward(self):
        self.step.flags = FINISH
        self.ring.call("flashring_forward_step", c.byref(self.step))

    def both(self):
        self.forward()
        self()

    def __call__(self):
        self.step.flags = self.flags
        self.ring.call("flashring_delta", c.byref(self.step))
        self.ring.call("flashring_backward_step", c.byref(self.step))


def draw(*shape, dtype=BF16):
    return torch.randn(shape, device="cuda").to(dtype)


def cudnn_calls(q, k, v, dout, causal):
    """cuDNN's forward and its backward call."""
    q, k, v = (x.transpose(1, 2).detach().requires_grad_() for x in (q, k, v))
    dout, shared = dout.transpose(1, 2), q.shape[1] != k.shape[1]

    def forward():
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=shared)

    def backward(out):
        return torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)

    return forward, backward


def cudnn_backward(*args):
    forward, backward = cudnn_calls(*args)
    out = forward()
    return lambda: backward(out)


def cudnn_both(*args):
    forward, backward = cudnn_calls(*args)
    return lambda: backward(forward())


def flash_window_backward(q, k, v, dout, window):
    """FlashAttention-2's backward call, where a query sees `window` keys up to its own; PyTorch's public call has
    none."""
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    out = torch.ops.aten._flash_attention_forward(q, k, v, None, None, q.shape[1], k.shape[1], 0.0, False, False,
                                                  window_size_left=window - 1, window_size_right=0)[0]
    return lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)


def short_bursts(bodies, rounds):
    """Milliseconds of a call of each: the median over `rounds` of short bursts, which the bodies have in turns."""
    sweep = torch.empty(SWEEP_BYTES, dtype=torch.uint8, device="cuda")

    def timed(body):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        sweep.zero_()
        start.record()
        body()
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop)

    def burst(body):
        time.sleep(IDLE_SECONDS)
        return statistics.median([timed(body) for _ in range(10)][5:])

    bursts = [{name: burst(body) for name, body in bodies.items()} for _ in range(rounds)]
    return {name: statistics.median(each[name] for each in bursts) for name in bodies}


class Bench:
    def __init__(self, rings, repeats, seed):
        self.rings, self.repeats, self.seed = rings, repeats, seed

    def builds(self, *args, **rest):
        return {name: Gradients(ring, *args, **rest) for name, ring in self.rings.items()}

    def in_turns(self, bodies, flops):
        longest = flops / ASSUMED_RATE
        burst = max(1, round(BURST_MILLIS / longest))
        return interleaved(bodies, self.repeats, burst, math.ceil(WARM_UP_MILLIS / (2 * burst * longest)))

    def line(self, shape, builds, flops, beside, theirs, their_flops, goal, floor, body=lambda ours: ours, short=False):
        """`body` makes what is timed of each build; `short` times it in short bursts."""
        bodies = {**{name: body(ours) for name, ours in builds.items()}, "theirs": theirs}
        if short:
            millis = short_bursts(bodies, max(1, self.repeats // 8))
        else:
            millis = self.in_turns(bodies, max(flops, their_flops))
        tflops = {name: (their_flops if name == "theirs" else flops) / ms * 1e-9 for name, ms in millis.items()}
        others = {name: millis[name] / millis["ours"] for name in builds if name != "ours"}
        return Line(shape, builds["ours"].kernel, beside, millis, tflops, tflops["ours"] / tflops["theirs"], goal,
                    floor, others)

    def plain(self, shape, b, s, hq, hk, d, width, causal, dtype, goal, floor, short=False):
        call = [*(draw(b, s, h, x, dtype=dtype) for h, x in ((hq, d), (hk, d), (hk, width), (hq, width))), causal]
        flops = 2.0 * b * hq * s * s * (3 * d + 2 * width) * (0.5 if causal else 1)
        theirs = cudnn_backward(*call)
        return self.line(shape, self.builds(*call), flops, "cuDNN", theirs, flops, goal, floor, short=short)

    def both(self, shape, s, heads, d, width, goal, floor):
        call = [*(draw(1, s, heads, x) for x in (d, d, width, width)), True]
        flops = heads * s * s * (4.0 * d + 3 * width)
        theirs = cudnn_both(*call)
        return self.line(shape, self.builds(*call), flops, "cuDNN", theirs, flops, goal, floor, lambda ours: ours.both)

    def window(self, shape, window, s=16384, heads=16, d=128):
        tensors = [draw(1, s, heads, d) for _ in range(4)]
        builds, flash = self.builds(*tensors, True, window=window), flash_window_backward(*tensors, window)
        builds["ours"]()
        ours, theirs = builds["ours"].dq, flash()[0].float()
        if not (ours - theirs).norm() <= WINDOW_ERROR * theirs.norm():
            raise RuntimeError("dq is not FlashAttention-2's")
        flops = 10.0 * heads * d * sum(min(query + 1, window) for query in range(s))
        return self.line(shape, builds, flops, "FlashAttention-2", flash, flops, 1.6, 1.6)

    def deterministic(self, shape, b, s, heads, d, causal):
        tensors = [draw(b, s, heads, d) for _ in range(4)]
        flops = 10.0 * b * heads * s * s * d * (0.5 if causal else 1)
        return self.line(shape, self.builds(*tensors, causal, deterministic=1), flops, "not deterministic",
                         Gradients(self.rings["ours"], *tensors, causal), flops, 0.9, 0.8)

    def ring_step(self, shape, rank, source, chunk=4096, hq=32, hk=8, d=128):
        """A step of a zigzag ring of two: rank 0 has chunks 0 and 3 of the sequence, rank 1 has chunks 1 and 2."""
        chunks = ((0, 3), (1, 2))
        q_ranges, kv_ranges = ([(n * chunk, chunk, 1) for n in chunks[r]] for r in (rank, source))
        q, k, v, dout = (draw(1, 2 * chunk, h, d) for h in (hq, hk, hk, hq))
        builds = self.builds(q, k, v, dout, True, q_ranges=q_ranges, kv_ranges=kv_ranges, flags=ADD_DQ | ADD_DKV)
        # as local indices go; else rank 0's later chunk sees all keys, and all of rank 1 the earlier chunk
        causal = rank == source
        queries, keys = (2, 2) if causal else (1, 2) if rank == 0 else (2, 1)
        plain = Gradients(self.rings["ours"], draw(1, queries * chunk, hq, d), k[:, :keys * chunk], v[:, :keys * chunk],
                          draw(1, queries * chunk, hq, d), causal)
        flops = 10.0 * hq * d * 2 * chunk * chunk
        return self.line(shape, builds, flops, f"plain {queries * chunk} x {keys * chunk}", plain, flops, 0.97, 0.97)

    def documents(self, shape, s=16384, heads=16, d=128):
        r, bounds = random.Random(self.seed), [0]
        while bounds[-1] < s:
            length = min(r.randint(32, 4096), s - bounds[-1])
            bounds.append(s if s - bounds[-1] - length < 32 else bounds[-1] + length)
        tensors = [draw(1, s, heads, d) for _ in range(4)]
        flops = 10.0 * heads * d / 2
        return self.line(shape, self.builds(*tensors, True, documents=bounds),
                         flops * sum((b - a) ** 2 for a, b in zip(bounds, bounds[1:])),
                         "one causal sequence", Gradients(self.rings["ours"], *tensors, True), flops * s * s, 0.75,
                         0.75)

    def gathered(self, shape, rank, heads, direction, bar):
        part = RankOfEight(rank)
        builds = {name: part.gather(build, heads) for name, build in self.rings.items()}
        ring = part.ring(self.rings["ours"])
        part.require_equal(ring, builds["ours"])

        def body(steps):
            return getattr(steps, direction)

        flops = part.flops(direction)
        return self.line(shape, builds, flops, "ring", body(ring), flops, bar, bar, body)

    def kernels(self, b, s, heads, d):
        """Microseconds of each kernel of a causal call, by PyTorch's profiler."""
        call, calls = Gradients(self.rings["ours"], *(draw(b, s, heads, d) for _ in range(4)), True), 5
        call()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(calls):
                call()
            torch.cuda.synchronize()
        names = {event.key: event.key.replace("(anonymous namespace)::", "").split("<")[0].split("(")[0].split("::")[-1]
                 for event in profile.key_averages()}
        return {names[event.key]: event.device_time_total / calls for event in profile.key_averages()
                if event.device_time_total}


def cases(bench):
    """(name, call that measures) of every line."""
    def dims(d, width):
        return f"D{d}" if width in (None, d) else f"D{d}/{width}"

    def plain(b, s, hq, hk, d, causal, goal, floor, dtype=BF16, width=None):
        mask, element = "causal" if causal else "full", "" if dtype == BF16 else " fp16"
        shape = f"B{b} H{hq}/{hk} S{s} {dims(d, width)} {mask}{element}"
        return shape, lambda: bench.plain(shape, b, s, hq, hk, d, width or d, causal, dtype, goal, floor)

    for d, heads in ((128, 16), (64, 32), (96, 16)):
        for causal in (False, True):
            yield plain(1, 16384, heads, heads, d, causal, 1.05, 1.0)
            yield plain(4, 4096, heads, heads, d, causal, *((1.0, 0.95) if d == 128 else (1.05, 1.0)))
            yield plain(16, 1024, heads, heads, d, causal, 1.0, 0.93)
    for causal in (False, True):
        for b, s in ((1, 16384), (4, 4096), (16, 1024)):
            yield plain(b, s, 8, 8, 256, causal, 1.05, 1.0)
        yield plain(1, 16384, 8, 8, 192, causal, 1.05, 1.0)
        yield plain(1, 16384, 8, 8, 160, causal, 1.05, 1.0)
        yield plain(1, 16384, 16, 16, 192, causal, 0.95, 0.85, width=128)
    yield plain(1, 16384, 8, 8, 256, True, 1.05, 1.0, FP16)
    yield plain(1, 32768, 32, 8, 128, True, 1.05, 1.0)
    yield plain(1, 16384, 16, 16, 128, True, 1.05, 1.0, FP16)
    yield plain(1, 2048, 32, 8, 128, True, 1.0, 0.93)
    yield plain(1, 16384, 64, 1, 128, True, 1.0, 0.9)
    for d, width, heads in ((64, 64, 32), (96, 96, 16), (128, 128, 16), (256, 256, 8), (192, 128, 16)):
        goal = 1.07 if d == width else 1.0
        shape = f"forward + backward, H{heads} S16384 {dims(d, width)} causal"
        yield shape, lambda shape=shape, at=(16384, heads, d, width, goal, 1.0): bench.both(shape, *at)
    for s, causal, goal, floor in ((16384, True, 1.12, 1.03), (8192, True, 1.10, 1.02), (8192, False, 1.10, 1.02)):
        shape = f"burst, B2 H64/8 S{s} D128 {'causal' if causal else 'full'}"
        at = 2, s, 64, 8, 128, 128, causal, BF16, goal, floor, True
        yield shape, lambda shape=shape, at=at: bench.plain(shape, *at)
    for window in (1024, 4096):
        shape = f"window of {window}, 16k tokens, H16 D128"
        yield shape, lambda shape=shape, window=window: bench.window(shape, window)
    for d, heads in ((64, 32), (96, 16), (128, 16)):
        for b, s in ((1, 16384), (4, 4096)):
            for causal in (False, True):
                shape = f"deterministic, B{b} H{heads} S{s} D{d} {'causal' if causal else 'full'}"
                yield shape, lambda shape=shape, at=(b, s, heads, d, causal): bench.deterministic(shape, *at)
    for rank, source in ((0, 0), (0, 1), (1, 0)):
        shape = f"ring step, zigzag, queries of rank {rank}, keys of rank {source}, 8k x 8k, H32/8 D128"
        yield shape, lambda shape=shape, rank=rank, source=source: bench.ring_step(shape, rank, source)
    shape = "documents, 16k tokens, lengths uniform in 32..4096, H16 D128"
    yield shape, lambda: bench.documents(shape)
    for rank in RankOfEight.PLAYED:
        for direction, heads, bar in (("forward", 1, 1.05), ("backward", 1, 0.99), ("backward", 8, 1.04)):
            how = "one launch" if heads == 8 else "groups of one head"
            shape = f"gather, rank {rank} of 8, 64k tokens, H64/8 D128 {direction} in {how}"
            at = rank, heads, direction, bar
            yield shape, lambda shape=shape, at=at: bench.gathered(shape, *at)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=LIBRARY", help="another build, timed "
                                                                                              "in turn with this one")
    parser.add_argument("--json", help="write everything there")
    parser.add_argument("--only", action="append", metavar="TEXT", help="only lines whose name contains one of these")
    parser.add_argument("--repeats", type=int, default=24, help="of which a line is the median (24)")
    parser.add_argument("--quick", action="store_true", help="7 repeats, and fewer random shapes checked")
    parser.add_argument("--kernels", action="store_true", help="also the time of each kernel of a call")
    parser.add_argument("--no-check", action="store_true", help="time only")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats {options.repeats} must be at least 1")

    torch.manual_seed(options.seed)
    rings = {"ours": FlashRing(options.library),
             **{name: FlashRing(path) for name, path in (pair.split("=", 1) for pair in options.beside)}}
    bench = Bench(rings, 7 if options.quick else options.repeats, options.seed)
    machine = {"gpu": torch.cuda.get_device_name(), "pytorch": torch.__version__,
               "cudnn": torch.backends.cudnn.version(), "repeats": bench.repeats}
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    checked = [] if options.no_check else check(rings["ours"], 24 if options.quick else 120)
    wrong = [line for line in checked if line["wrong"]]

    print("\n| shape | kernel | ms | TFLOP/s | beside | ratio | goal (floor) | | this build over |\n" + "|---" * 9
          + "|", flush=True)
    lines, failed, kernels = [], {}, {}
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        for shape, measure in cases(bench):
            if any(text in shape for text in options.only or [""]):
                try:
                    lines.append(measure())
                    print(lines[-1].markdown(), flush=True)
                except RuntimeError as refusal:  # one kernel's refusal is no reason to lose the other lines
                    failed[shape] = str(refusal)
                    print(f"| {shape} | failed: {refusal} |", flush=True)
                torch.cuda.empty_cache()
    if options.kernels:
        for b, s, heads, d in ((1, 16384, 16, 128), (16, 1024, 16, 128), (1, 16384, 32, 64), (1, 16384, 8, 256),
                               (16, 1024, 8, 256)):
            name = f"B{b} H{heads} S{s} D{d} causal"
            kernels[name] = bench.kernels(b, s, heads, d)
            print(f"{name}: " + ", ".join(f"{kernel} {micros:.1f} us" for kernel, micros in kernels[name].items()),
                  flush=True)
    counts = {verdict: sum(line.verdict() == verdict for line in lines) for verdict in ("goal", "floor", "missed")}
    print("\n" + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + f" of {len(lines)}, {len(failed)} "
                                                                                f"failed to run, {len(wrong)} of "
                                                                                f"{len(checked)} checks wrong")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({**machine, "checked": checked, "lines": [asdict(line) for line in lines], "failed": failed,
                       "kernels": kernels}, file, indent=1)
    sys.exit(1 if failed or wrong else 0)


if __name__ == "__main__":
    main()
