"""Whether the gradients of the CUDA kernels are right, hard numbers included: what backward_vs_cudnn.py asks before it
times anything."""
import ctypes as c
import math

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from cuda_vs_torch import check as check_random
from flashring_ctypes import ADD_DKV, ADD_DQ, FINISH, RESUME, attach, empty

BF16, FP16 = torch.bfloat16, torch.float16
NAMES = ("out", "dq", "dk", "dv")
OVER_OTHERS = 1.2                  # of the larger error of FlashAttention-2 and cuDNN on the same inputs
LEAST = {BF16: 2e-3, FP16: 2.5e-4}  # what rounding of operands alone may cost, of the norm


def exact(q, k, v, dout, scale, causal):
    q, k, v = (x.double().requires_grad_() for x in (q, k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool, device="cuda").tril(), -math.inf)
    out = torch.einsum("bhqk,bkhd->bqhd", torch.softmax(scores, -1), v)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), dout.double())]


def theirs(q, k, v, dout, scale, causal, backend):
    tensors = [x.transpose(1, 2).detach().requires_grad_() for x in (q, k, v)]
    with sdpa_kernel(backend):
        out = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=causal, scale=scale)
    return [x.transpose(1, 2) for x in (out.detach(), *torch.autograd.grad(out, tensors, dout.transpose(1, 2)))]


def ours(ring, q, k, v, dout, scale, causal, parts=1, before=0.0, kernel="auto", deterministic=0):
    """Out and gradients in `parts` steps over the keys; dq, dk and dv add to `before` where that is not 0."""
    b, s, h, d = q.shape
    length, width = k.shape[1], v.shape[3]
    out, acc, lse, delta = empty(b, s, h, width,
                                 dtype=q.dtype), empty(b, s, h, width), empty(b, s, h, 1), empty(b, s, h, 1)
    dq, dk, dv = (torch.full(x.shape, before or math.nan, device="cuda") for x in (q, k, v))
    steps = []
    for n in range(parts):
        first, last = length * n // parts, length * (n + 1) // parts
        part = slice(first, last)
        step = ring.step(q, k[:, part], v[:, part], [(0, s, 1)], [(first, last - first, 1)], scale, -1,
                         0 if causal else -1, kernel=kernel,
                         deterministic=deterministic)
        attach(step, out=out, acc=acc, lse=lse, delta=delta, dout=dout, dq=dq, dk=dk[:, part], dv=dv[:, part])
        step.flags = (RESUME if n else 0) | (FINISH if n + 1 == parts else 0)
        ring.call("flashring_forward_step", c.byref(step))
        steps.append(step)
    for n, step in enumerate(steps):
        if n == 0:
            ring.call("flashring_delta", c.byref(step))
        step.flags = (ADD_DQ if n or before else 0) | (ADD_DKV if before else 0)
        ring.call("flashring_backward_step", c.byref(step))
    return [out, dq - before, dk - before, dv - before]


def errors(actual, expected, sizes):
    return [((a.double() - e).norm() / max(e.norm().item(), 1e-7 * size, 1e-300)).item() for a, e,
            size in zip(actual, expected, sizes)]


def hard_cases(dtype):
    """(name, q, k, v, dout, scale, causal), all of [batch, tokens, heads, dim]."""
    def normal(*shape):
        return torch.randn(shape, device="cuda")

    for d, width in ((64, 64), (96, 96), (128, 128), (160, 160), (192, 128), (192, 192), (256, 256)):
        tensors = [normal(2, 700, 2, x) for x in (d, d, width, width)]
        yield f"normal, causal, D{d}/{width}", *tensors, 1 / math.sqrt(d), True
        yield f"normal, full, D{d}/{width}", *tensors, 1 / math.sqrt(d), False
    for offset in (100, 1000, 10000):
        for d in (64, 128, 256):
            q, k, v, dout = (normal(1, 512, 2, d) for _ in range(4))
            q[..., 0] = k[..., 0] = math.sqrt(math.sqrt(d) * offset)
            yield f"all scores near {offset}, D{d}", q, k, v, dout, 1 / math.sqrt(d), True
    for d in (64, 128, 256):
        q, k, v, dout = (normal(1, 512, 2, d) for _ in range(4))
        k[..., 0] = math.sqrt(math.sqrt(d) * 1000)
        q[:, torch.arange(512, device="cuda") // 32 % 2 == 1, :, 0] = math.sqrt(math.sqrt(d) * 1000)
        yield f"scores near 1000 for every other 32 queries, D{d}", q, k, v, dout, 1 / math.sqrt(d), True
    for size in (100, 1000, 10000):
        one = torch.ones(1, 1, 1, 64, device="cuda")
        yield f"one token of {size}", one * size, one * size, one, one, 0.125, False
        tokens = normal(1, 5, 64, 64)  # many heads, that errors be averages
        steps = 1 + 0.1 * torch.arange(5, device="cuda").view(1, 5, 1, 1)
        q, k = (one * size).expand(1, 5, 64, 64), (one * size * steps).expand(1, 5, 64, 64)
        yield f"5 tokens of {size}", q, k, tokens, tokens.flip(1), 0.125, False
    q, k, v, dout = (normal(1, 1024, 2, 128) for _ in range(4))
    yield "peaked: 30 times the scale", q, k, v, dout, 30 / math.sqrt(128), True
    for scale in (1e-30, 1e-8):
        yield f"scale {scale}", q, k, v, dout, scale, True
    yield "scale 1e4, small operands", q * 0.01, k * 0.01, v, dout, 1e4, True


def check_hard(ring, dtype):
    lines = []
    for name, *tensors, scale, causal in hard_cases(dtype):
        q, k, v, dout = (x.to(dtype).contiguous() for x in tensors)
        if not all(x.isfinite().all() for x in (q, k, v, dout)):
            continue
        expected = exact(q, k, v, dout, scale, causal)
        norms = [x.double().norm().item() for x in (q, k, v, dout)]
        # Where the true gradient vanishes errors count against the sizes of what it is made of.
        sizes = (norms[2], norms[3] * norms[2] * norms[1] * scale, norms[3] * norms[2] * norms[0] * scale, norms[3])
        others = []
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            try:
                others.append(errors(theirs(q, k, v, dout, scale, causal, backend), expected, sizes))
            except RuntimeError:
                pass
        bounds = [max([LEAST[dtype]] + [OVER_OTHERS * x[n] if math.isfinite(x[n]) else math.inf for x in others])
                  for n in range(4)]
        for parts, before, deterministic in ((1, 0.0, 0), (3, 0.0, 0), (1, 1.0, 0), (1, 0.0, 1)):
            if parts > q.shape[1] or (before and not name.startswith("normal")):
                continue
            actual = errors(ours(ring, q, k, v, dout, scale, causal, parts, before, deterministic=deterministic),
                            expected, sizes)
            bad = [n for n in range(4) if not actual[n] <= bounds[n]]
            what = f"{str(dtype)[6:]} {name}" + (f", {parts} steps" if parts > 1 else "")
            what += (", added" if before else "") + (", deterministic" if deterministic else "")
            wrong = ", ".join(f"{NAMES[n]} is off by {actual[n]:.1e}, allowed {bounds[n]:.1e}" for n in bad)
            lines.append({"case": what, "errors": actual, "bounds": bounds, "wrong": wrong})
            if wrong:
                print(f"WRONG {what}: {wrong}", flush=True)
    return lines


def check_not_finite(ring, dtype):
    """NaN and infinity in one row of an operand reach just the gradients that they reach in the reference kernel."""
    lines = []
    for d in (64, 96, 128, 256):
        for operand in range(4):
            for value in (math.nan, math.inf):
                for at in (0, 200, 399):
                    tensors = [torch.randn(1, 400, 2, d, device="cuda").to(dtype) for _ in range(4)]
                    tensors[operand][0, at, 1, d // 3] = value
                    fast, ordered, slow = (ours(ring, *tensors, 1 / math.sqrt(d), True, kernel=kernel,
                                                deterministic=deterministic)
                                           for kernel, deterministic in (("auto", 0), ("auto", 1), ("reference", 0)))
                    wrong = [n for n, a, b, e in zip(NAMES, fast, ordered, slow)
                             if not torch.equal(a.isfinite(), e.isfinite())
                             or not torch.equal(b.isfinite(), e.isfinite())]
                    what = f"{str(dtype)[6:]} {value} in {'q k v dout'.split()[operand]} of token {at}, D{d}"
                    lines.append({"case": what, "errors": [], "bounds": [], "wrong": ", ".join(wrong)})
                    if wrong:
                        print(f"WRONG {what}: other elements of {', '.join(wrong)} are finite than in the reference "
                              f"kernel", flush=True)
    return lines


def check_grouped(ring):
    """Query heads that share key heads, in as many blocks as a GPU needs and in fewer, beside FlashAttention-2."""
    lines = []
    for b, s, hq, hk, d in ((5, 2048, 16, 8, 128), (3, 2048, 30, 15, 64), (1, 1000, 12, 1, 96), (1, 1000, 12, 2, 128),
                            (1, 1000, 12, 2, 256), (2, 777, 6, 3, 160)):
        q, k, v, dout = (torch.randn(b, s, h, d, device="cuda").to(BF16) for h in (hq, hk, hk, hq))
        tensors = [x.transpose(1, 2).detach().requires_grad_() for x in (q, k, v)]
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            repeated = [tensors[0]] + [x.repeat_interleave(hq // hk, 1) for x in tensors[1:]]
            out = torch.nn.functional.scaled_dot_product_attention(*repeated, is_causal=True)
        expected = [x.transpose(1, 2) for x in (out.detach(), *torch.autograd.grad(out, tensors, dout.transpose(1, 2)))]
        actual = errors(ours(ring, q, k, v, dout, 1 / math.sqrt(d), True), [x.double() for x in expected], (1, 1, 1, 1))
        what, bound = f"B{b} S{s} H{hq}/{hk} D{d}", 1e-2
        wrong = ", ".join(f"{name} is off by {x:.1e} from FlashAttention-2's" for name,
                          x in zip(NAMES, actual) if not x <= bound)
        lines.append({"case": what, "errors": actual, "bounds": [bound] * 4, "wrong": wrong})
        if wrong:
            print(f"WRONG {what}: {wrong}", flush=True)
    return lines


def check(ring, seeds):
    """A line for each case; `wrong` says what is wrong, or is empty."""
    lines = check_grouped(ring)
    if not check_random(ring, seeds, 1):
        lines.append({"case": "random shapes", "errors": [], "bounds": [], "wrong": "see above"})
    for dtype in (BF16, FP16):
        lines += check_hard(ring, dtype) + check_not_finite(ring, dtype)
    worst = max((max(a / b for a, b in zip(x["errors"], x["bounds"])), x["case"]) for x in lines if x["errors"])
    print(f"check: {len(lines)} cases, {sum(bool(x['wrong']) for x in lines)} wrong; closest to its bound: "
          f"{worst[1]}, {worst[0]:.2f} of it", flush=True)
    return lines
