"""flashring.h through ctypes, on PyTorch's CUDA tensors, and what the benchmarks beside it share."""
import ctypes as c
import math
import re
import statistics

import torch

RESUME, FINISH, ADD_DQ, ADD_DKV = 1, 2, 4, 8
FORWARD, BACKWARD = 0, 1
KERNELS = {"auto": 0, "reference": 1, "mma": 6, "wgmma": 7, "decode": 9}
CODES = {torch.float64: 0, torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}
I32, I64, PTR = c.c_int32, c.c_int64, c.c_void_p


class Tensor(c.Structure):
    _fields_ = [("data", PTR), ("stride_batch", I64), ("stride_seq", I64), ("stride_head", I64)]


class Positions(c.Structure):
    _fields_ = [("ranges", PTR), ("count", I64)]


class Mask(c.Structure):
    _fields_ = [("left", I64), ("right", I64), ("cu_seqlens", PTR), ("documents", I64), ("prefix_lengths", PTR)]


OPERANDS = ("q", "k", "v", "out", "acc", "lse", "dout", "delta", "dq", "dk", "dv", "lse_low")


class Step(c.Structure):
    _fields_ = [("size", c.c_uint32)] + [(n, I32) for n in ("device", "dtype", "kernel", "flags", "deterministic")] + \
        [(n, I64) for n in ("batch", "q_len", "kv_len", "q_heads", "kv_heads", "head_dim", "value_dim")] + \
        [("softmax_scale", c.c_double), ("q_positions", Positions), ("kv_positions", Positions), ("mask", Mask),
         ("workspace", PTR), ("workspace_bytes", I64), ("stream", PTR)] + [(n, Tensor) for n in OPERANDS] + \
        [("softcap", c.c_double)] + [(n, PTR) for n in ("sinks", "alibi_slopes", "dsinks")] + \
        [(n, PTR) for n in ("kv_lengths", "kv_begins", "q_lengths", "page_table", "k_pages", "v_pages")] + \
        [(n, I64) for n in ("page_size", "pages", "page_table_stride", "shard", "shards")] + \
        [(n, I32) for n in ("kv_dtype", "batch_invariant")] + [(n, PTR) for n in ("k_scales", "v_scales")]


class Capability(c.Structure):
    _fields_ = [("size", c.c_uint32)] + [(n, I32)
                                         for n in ("kernel", "cuda", "dtype", "max_head_dim", "max_value_dim",
                                                   "forward",
                                                            "backward", "unequal_dims", "available")] + \
        [("name", c.c_char_p), ("requirement", c.c_char_p)] + \
        [(n, I32) for n in ("scores", "forward_dim", "latent")]


def view(t):
    return Tensor(t.data_ptr(), *(t.stride()[:3]))


class FlashRing:
    def __init__(self, path):
        self.lib = c.CDLL(path)
        self.lib.flashring_last_error.restype = c.c_char_p
        # Builds before structs of any release were taken want their own size, and say it.
        self.lib.flashring_select(c.byref(Step(size=0)), FORWARD, c.byref(I32()))
        own = re.search(r"= (\d+)$", self.lib.flashring_last_error().decode())
        self.step_bytes = int(own.group(1)) if own else c.sizeof(Step)

    def call(self, name, *arguments):
        if getattr(self.lib, name)(*arguments) != 0:
            raise RuntimeError(name + ": " + self.lib.flashring_last_error().decode())

    def step(self, q, k, v, q_ranges, kv_ranges, scale, left=-1, right=-1, documents=None, prefixes=None,
             deterministic=0,
             kernel="auto", directions=(FORWARD, BACKWARD)):
        """A step and the device tensors it borrows, which must stay alive with it; its workspace serves
        `directions`."""
        (b, sq, hq, d), (_, sk, hk, dv) = q.shape, v.shape
        s = Step(size=self.step_bytes, device=q.device.index, dtype=CODES[q.dtype], kernel=KERNELS[kernel],
                 deterministic=deterministic,
                 batch=b, q_len=sq, kv_len=sk, q_heads=hq, kv_heads=hk, head_dim=d, value_dim=dv, softmax_scale=scale)
        s.q, s.k, s.v = view(q), view(k), view(v)
        lists = [torch.tensor(x, dtype=torch.int64, device=q.device)
                 for x in (q_ranges, kv_ranges, documents or [], prefixes or [])]
        s.q_positions, s.kv_positions = Positions(lists[0].data_ptr(), len(q_ranges)), Positions(lists[1].data_ptr(),
                                                                                                 len(kv_ranges))
        s.mask = Mask(left, right, lists[2].data_ptr() if documents else None, len(documents) - 1 if documents else 0,
                      lists[3].data_ptr() if prefixes else None)
        s.stream = torch.cuda.current_stream().cuda_stream
        need, most = I64(), 0
        for direction in directions:
            self.call("flashring_workspace_bytes", c.byref(s), direction, c.byref(need))
            most = max(most, need.value)
        workspace = torch.empty(most, dtype=torch.uint8, device=q.device)
        s.workspace, s.workspace_bytes = workspace.data_ptr(), most
        s.keep = lists + [workspace, q, k, v]
        return s

    def kernel_name(self, s, direction):
        """The kernel that serves a step, as the capability table names it."""
        row, capability = I32(), Capability(size=c.sizeof(Capability))
        self.call("flashring_select", c.byref(s), direction, c.byref(row))
        self.call("flashring_capability_get", row, c.byref(capability))
        return capability.name.decode()


def attach(s, **tensors):
    for name, tensor in tensors.items():
        setattr(s, name, view(tensor))
        s.keep.append(tensor)


def empty(*shape, dtype=torch.float32):
    return torch.full(shape, math.nan, dtype=dtype, device="cuda")


def positions(ranges):
    return torch.cat([start + torch.arange(n, device="cuda") * stride for start, n, stride in ranges])


def visible(q_positions, k_positions, left, right, documents, prefixes):
    """[queries, keys], true where the mask lets a query see a key."""
    q, k = q_positions[:, None], k_positions[None]
    start, end, prefix = torch.zeros_like(q), torch.full_like(q, 1 << 60), torch.full_like(q, prefixes[0]
                                                                                           if prefixes else 0)
    if documents:
        bounds = torch.tensor(documents, device="cuda")
        index = torch.searchsorted(bounds[1:].contiguous(), q, right=True)
        inside = index < len(documents) - 1
        at = index.clamp(max=len(documents) - 2)
        start, end = bounds[at], torch.where(inside, bounds[at + 1], bounds[at])
        prefix = torch.tensor(prefixes, device="cuda")[at] if prefixes else torch.zeros_like(q)
    seen = (k >= start) & (k < end)
    if left >= 0:
        seen &= k >= q - left
    if right >= 0:
        seen &= (k <= q + right) | (k < start + prefix)
    return seen


def interleaved(bodies, repeats, burst=1, warm_up=2):
    """Milliseconds of each body, per call: the median of `repeats` bursts of `burst` calls, the bodies taking turns.

    Everything is queued before anything is waited for: the GPU never idles between calls, so all bodies meet the same
    clocks and nobody's launch is timed.
    """
    events = {name: [] for name in bodies}
    for _ in range(warm_up + repeats):
        for name, body in bodies.items():
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(burst):
                body()
            stop.record()
            events[name].append((start, stop))
    torch.cuda.synchronize()
    return {name: statistics.median(start.elapsed_time(stop) / burst for start, stop in turns[warm_up:]) for name,
            turns in events.items()}
