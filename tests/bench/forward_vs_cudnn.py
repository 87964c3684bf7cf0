#!/usr/bin/env python3
"""The forward kernel beside cuDNN's, in one process, through the C ABI alone (ctypes): a table, verdicts, JSON.

    forward_vs_cudnn.py libflashring.so [--json FILE] [--java FILE] [--shapes TEXT] [--kernel auto|mma|wgmma] [--quick]

Needs an NVIDIA GPU that cuDNN's attention serves and PyTorch with it. Every line is the median of interleaved bursts of
calls on random normal inputs, after a warm-up; FLOPs are 4 per visible pair, head and dim of a head, a causal mask
hiding half of all pairs. A ratio above 1 says that this library is faster. The bars:

    attention    beside cuDNN: 1.05 (dims 64 and 128; at 1,024 tokens and dim 128: 1), 1 at dim 256
    ring step    state in and out, zigzag positions, beside a plain call over as many pairs: 0.96
    documents    per visible pair, beside one causal sequence as long: 0.75
    host         microseconds that a call from Java takes over one from C: at most 10. --java names what was written on
                 this host, by code that the JVM has compiled meanwhile, by
                 flashring bench --device cuda --dtype bfloat16 --heads 1 --length 128 --dim 128 --causal
                     --repeats 300 --json FILE

Outputs are compared with cuDNN's (those of documents with FlashAttention's), the log-sum-exp of a sample of queries
with the scores', and the first call's bits with the last one's; the exit status is 1 where any of these is wrong,
whatever the speed.
"""
import argparse
import ctypes as c
import json
import math
import random
import sys
import time
from dataclasses import asdict, dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from flashring_ctypes import FINISH, FORWARD, KERNELS, RESUME, FlashRing, attach, empty, interleaved, positions, visible

BF16, FP16 = torch.bfloat16, torch.float16
BURST_MILLIS, WARM_UP_MILLIS = 6, 100
ASSUMED_RATE = 500e9          # FLOPs a millisecond, to size bursts
# of the norm; two kernels that round probabilities and outputs to the element type
OUT_ERROR = {BF16: 5e-3, FP16: 1e-3}
LSE_ERROR = 1e-4              # relative to max(1, |lse|)
HOST_MICROS = 10


@dataclass
class Line:
    """One measurement; a ratio is ours over the other's rate."""
    shape: str
    kernel: str
    beside: str
    millis: float
    tflops: float
    beside_millis: float
    beside_tflops: float
    ratio: float
    bar: float
    out_error: float
    lse_error: float
    wrong: str  # what is wrong with the results, or ""

    HEADER = ("| shape | kernel | ms | TFLOP/s | beside | ms | TFLOP/s | ratio | bar | | off in out | off in lse |\n"
              + "|---" * 12 + "|")

    def met(self):
        return self.ratio >= self.bar

    def markdown(self):
        verdict = f"WRONG: {self.wrong}" if self.wrong else "met" if self.met() else "missed"
        return (f"| {self.shape} | {self.kernel} | {self.millis:.3f} | {self.tflops:.0f} | {self.beside} | "
                f"{self.beside_millis:.3f} | "
                f"{self.beside_tflops:.0f} | {self.ratio:.3f} | {self.bar:.2f} | {verdict} | {self.out_error:.1e} | "
                f"{self.lse_error:.1e} |")


class Attention:
    """A forward call over queries and keys [batch, tokens, heads, dim] at the given ranges of positions."""

    def __init__(self, ring, kernel, q, k, v, causal, q_ranges=None, kv_ranges=None, documents=None, out=None, lse=None,
                 acc=None):
        (b, sq, hq, d), sk = q.shape, k.shape[1]
        self.ring, self.q, self.k = ring, q, k
        self.mask = (q_ranges or [(0, sq, 1)], kv_ranges or [(0, sk, 1)], -1, 0 if causal else -1, documents)
        q_ranges, kv_ranges, left, right, documents = self.mask
        self.step = ring.step(q, k, v, q_ranges, kv_ranges, 1 / math.sqrt(d), left, right, documents, kernel=kernel,
                              directions=(FORWARD,))
        self.out = empty(b, sq, hq, v.shape[3], dtype=q.dtype) if out is None else out
        self.lse = empty(b, sq, hq, 1) if lse is None else lse
        attach(self.step, out=self.out, lse=self.lse, **({} if acc is None else {"acc": acc}))
        self.step.flags = FINISH
        self.kernel = ring.kernel_name(self.step, FORWARD)

    def __call__(self):
        self.ring.call("flashring_forward_step", c.byref(self.step))

    def lse_error(self, k=None, kv_ranges=None):
        """Largest error of lse over 64 queries of the first sequence, against all keys (of `k`, where the call saw a
        part)."""
        q_ranges, own_ranges, left, right, documents = self.mask
        k = (self.k if k is None else k)[0]
        rows = torch.linspace(0, self.q.shape[1] - 1, 64, device="cuda").long()
        seen = visible(positions(q_ranges)[rows], positions(kv_ranges or own_ranges), left, right, documents, None)
        q = self.q[0, rows].unflatten(1, (k.shape[1], -1)).float() * self.step.softmax_scale
        scores = torch.einsum("qgrd,kgd->qgrk", q, k.float()).masked_fill(~seen[:, None, None], -math.inf)
        expected, actual = torch.logsumexp(scores, -1).flatten(1), self.lse[0, rows, :, 0]
        off = torch.where(actual == expected, 0, (actual - expected).abs() / expected.abs().clamp(min=1))
        return off.max().item()


def draw(shape, dtype):
    return torch.randn(shape, device="cuda").to(dtype)


def torch_attention(q, k, v, causal):
    """[batch, heads, queries, dim] of PyTorch's call, by the backend that sdpa_kernel chose: cuDNN's where nothing else
    is said."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal,
                                                            enable_gqa=q.shape[1] != k.shape[1])


def norm_error(actual, expected):
    expected = expected.float()
    return ((actual.float() - expected).norm() / expected.norm()).item()


class Bench:
    def __init__(self, ring, kernel, repeats, seed):
        self.ring, self.kernel, self.repeats, self.seed = ring, kernel, repeats, seed

    def attention(self, q, k, v, causal, **rest):
        return Attention(self.ring, self.kernel, q, k, v, causal, **rest)

    def line(self, shape, ours, flops, beside, theirs, their_flops, bar, out_error, lse_error, wrong=""):
        """Times two calls, turn by turn."""
        longest = max(flops, their_flops) / ASSUMED_RATE
        burst = max(1, round(BURST_MILLIS / longest))
        warm_up = math.ceil(WARM_UP_MILLIS / (2 * burst * longest))
        millis = interleaved({"ours": ours, "theirs": theirs}, self.repeats, burst, warm_up)
        tflops, their_tflops = flops / millis["ours"] * 1e-9, their_flops / millis["theirs"] * 1e-9
        if not out_error <= OUT_ERROR[ours.q.dtype]:
            wrong = f"out is off by {out_error:.1e}"
        if not lse_error <= LSE_ERROR:
            wrong = f"lse is off by {lse_error:.1e}"
        return Line(shape, ours.kernel, beside, millis["ours"], tflops, millis["theirs"], their_tflops,
                    tflops / their_tflops, bar,
                    out_error, lse_error, wrong)

    def plain(self, shape, b, s, hq, hk, d, causal, dtype, bar):
        q, k, v = draw((b, s, hq, d), dtype), draw((b, s, hk, d), dtype), draw((b, s, hk, d), dtype)
        ours = self.attention(q, k, v, causal)
        ours()
        first = ours.out.clone()

        def theirs():
            return torch_attention(q, k, v, causal)
        out_error, lse_error = norm_error(first, theirs().transpose(1, 2)), ours.lse_error()
        flops = 4.0 * b * hq * s * s * d * (0.5 if causal else 1)
        line = self.line(shape, ours, flops, "cuDNN", theirs, flops, bar, out_error, lse_error)
        if not torch.equal(first, ours.out):
            line.wrong = "calls differ in their bits"
        return line

    def ring_step(self, shape, rank, source, chunk=4096, hq=32, hk=8, d=128):
        """A step of a zigzag ring of two: rank 0 has chunks 0 and 3 of the sequence, rank 1 has chunks 1 and 2."""
        chunks = ((0, 3), (1, 2))
        q, k, v = draw((1, 4 * chunk, hq, d), BF16), draw((1, 4 * chunk, hk, d), BF16), draw((1, 4 * chunk, hk, d),
                                                                                             BF16)

        def shard(x, rank):
            return torch.cat([x[:, n * chunk:(n + 1) * chunk] for n in chunks[rank]], 1)

        def ranges(rank):
            return [(n * chunk, chunk, 1) for n in chunks[rank]]

        expected = shard(torch_attention(q, k, v, True).transpose(1, 2), rank)
        local, out, acc, lse = shard(q, rank), empty(*expected.shape,
                                                     dtype=BF16), empty(*expected.shape), empty(1, 2 * chunk, hq, 1)
        before, ours = (self.attention(local, shard(k, n), shard(v, n), True, q_ranges=ranges(rank),
                                       kv_ranges=ranges(n), out=out,
                                       acc=acc, lse=lse) for n in (1 - source, source))
        before.step.flags, ours.step.flags = 0, RESUME | FINISH
        before(), ours()
        out_error, lse_error = norm_error(out, expected), ours.lse_error(k, [(0, 4 * chunk, 1)])
        before()
        ours.step.flags = RESUME

        # as local indices go; else rank 0's later chunk sees all keys, and all of rank 1 the earlier chunk
        causal = rank == source
        queries, keys = (2, 2) if causal else (1, 2) if rank == 0 else (2, 1)
        plain = self.attention(draw((1, queries * chunk, hq, d), BF16), k[:, :keys * chunk], v[:, :keys * chunk],
                               causal)
        flops = 4.0 * hq * d * 2 * chunk * chunk
        beside = f"plain {'causal' if causal else 'full'} {queries * chunk} x {keys * chunk}"
        return self.line(shape, ours, flops, beside, plain, flops, 0.96, out_error, lse_error)

    def documents(self, shape, draw_length, s=16384, heads=16, d=128):
        """Documents of 32 to 4,096 tokens that fill one sequence."""
        r, bounds = random.Random(self.seed), [0]
        while bounds[-1] < s:
            length = min(draw_length(r), s - bounds[-1])
            bounds.append(s if s - bounds[-1] - length < 32 else bounds[-1] + length)
        q, k, v = (draw((1, s, heads, d), BF16) for _ in range(3))
        ours, dense = self.attention(q, k, v, True, documents=bounds), self.attention(q, k, v, True)
        ours()
        spans = list(zip(bounds, bounds[1:]))
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # cuDNN would plan anew for every length
            expected = torch.cat([torch_attention(*(x[:, a:b] for x in (q, k, v)), True).transpose(1, 2) for a,
                                  b in spans], 1)
        flops = 4.0 * heads * d / 2
        return self.line(f"{shape}, {len(spans)} of them, seed {self.seed}", ours,
                         flops * sum((b - a) ** 2 for a, b in spans),
                         "one causal sequence", dense, flops * s * s, 0.75, norm_error(ours.out, expected),
                         ours.lse_error())

    def host_micros(self):
        """Host microseconds of a call on a small shape, less what ctypes takes of them: the best of many loops."""
        q, k, v = (draw((1, 128, 1, 128), BF16) for _ in range(3))
        attention = self.attention(q, k, v, True)
        attention()  # throws where the kernel refuses
        forward = self.best_loop(self.ring.lib.flashring_forward_step, c.byref(attention.step))
        return forward - self.best_loop(self.ring.lib.flashring_threads)

    @staticmethod
    def best_loop(function, *arguments, calls=100, loops=50):
        best = math.inf
        for _ in range(loops):
            torch.cuda.synchronize()  # what is queued never fills the queue, so that no call waits
            start = time.perf_counter()
            for _ in range(calls):
                function(*arguments)
            best = min(best, time.perf_counter() - start)
        return best / calls * 1e6


def cases(bench):
    """(name, call that measures) of every line."""
    def plain(b, s, hq, hk, d, causal, bar, dtype=BF16):
        shape = f"B{b} H{hq}/{hk} S{s} D{d} {'causal' if causal else 'full'} {'bf16' if dtype == BF16 else 'fp16'}"
        return shape, lambda: bench.plain(shape, b, s, hq, hk, d, causal, dtype, bar)

    for d, heads, bar in ((128, 16, 1.05), (64, 32, 1.05), (256, 8, 1.0)):
        for causal in (False, True):
            for b, s in ((16, 1024), (4, 4096), (1, 16384)):
                yield plain(b, s, heads, heads, d, causal, 1.0 if (d, s) == (128, 1024) else bar)
        if d != 256:
            for s in (16384, 32768, 65536):
                yield plain(1, s, 32, 8, d, True, bar)
        yield plain(1, 16384, heads, heads, d, True, bar, FP16)
    for rank, source in ((0, 0), (0, 1), (1, 0)):
        shape = f"ring step, zigzag, queries of rank {rank}, keys of rank {source}, 8k x 8k, H32/8 D128"
        yield shape, lambda shape=shape, rank=rank, source=source: bench.ring_step(shape, rank, source)
    for name, length in (("uniform", lambda r: r.randint(32, 4096)),
                         ("log-uniform", lambda r: round(math.exp(r.uniform(math.log(32), math.log(4096)))))):
        shape = f"documents, 16k tokens, lengths {name} in 32..4096, H16 D128"
        yield shape, lambda shape=shape, length=length: bench.documents(shape, length)


def java_micros(path):
    """Host microseconds of a forward call from Java, the best of the lines of `flashring bench --device cuda
    --json`."""
    with open(path) as file:
        return min(line["hostMicros"] for line in json.load(file)["lines"] if line["pass"] == "forward")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("--json", help="write everything there")
    parser.add_argument("--java", help="what flashring bench --device cuda --json wrote on this host")
    parser.add_argument("--shapes", default="", help="only lines whose name contains this")
    parser.add_argument("--kernel", choices=[name for name in KERNELS if name != "reference"], default="auto")
    parser.add_argument("--quick", action="store_true", help="median of 7 instead of 24")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    bench = Bench(FlashRing(options.library), options.kernel, 7 if options.quick else 24, options.seed)
    machine = {"gpu": torch.cuda.get_device_name(), "pytorch": torch.__version__,
               "cudnn": torch.backends.cudnn.version(),
               "kernel": options.kernel, "repeats": bench.repeats, "seed": options.seed}
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    host = {"c_micros": bench.host_micros()}
    print("\n" + Line.HEADER, flush=True)
    lines, failed = [], {}
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        for shape, measure in cases(bench):
            if options.shapes in shape:
                try:
                    lines.append(measure())
                    print(lines[-1].markdown(), flush=True)
                except RuntimeError as refusal:  # one kernel's refusal is no reason to lose the other lines
                    failed[shape] = str(refusal)
                    print(f"| {shape} | failed: {refusal} |", flush=True)

    print(f"\nhost: {host['c_micros']:.2f} us a call from C", end="")
    if options.java:
        host["java_micros"] = java_micros(options.java)
        over = host["java_micros"] - host["c_micros"]
        print(f", {host['java_micros']:.2f} from Java: {over:.2f} over it, at most {HOST_MICROS}: "
              f"{'met' if over <= HOST_MICROS else 'missed'}", end="")
    wrong = [line.shape for line in lines if line.wrong]
    missed = [line for line in lines if not line.met()]
    print(f"\nspeed: {len(lines) - len(missed)} of {len(lines)} bars met" + "".join(f"\n  missed: {x.shape}: "
                                                                                    f"{x.ratio:.3f} of {x.bar:.2f}"
                                                                                    for x in missed))
    print(f"results: {len(wrong)} of {len(lines)} wrong, {len(failed)} failed to run")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({**machine, "lines": [asdict(line) for line in lines], "failed": failed, "host": host}, file,
                      indent=1)
    sys.exit(1 if wrong or failed else 0)


if __name__ == "__main__":
    main()
