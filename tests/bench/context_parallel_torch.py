#!/usr/bin/env python3
"""PyTorch's context_parallel over all GPUs of the host, for the shapes of RingBench: torchrun --nproc_per_node N
context_parallel_torch.py

With arguments the shapes that they name, causal, with cuDNN: 64/8/16384 is heads, key heads and tokens.

bfloat16, batch 1, dim 128; causal is head-tail balanced. Median of 8 passes, the slowest rank's, by CUDA events. FLOPs
4 H S^2 D forward, 2.5 times that backward, half of it when causal.
"""
import itertools
import os
import statistics
import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.experimental import context_parallel
from torch.distributed.tensor.experimental._attention import _cp_options, set_rotate_method
from torch.nn.attention import SDPBackend, sdpa_kernel

DIM = 128
RANK, WORLD = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])


def attention(q, k, v, causal):
    # looked up late: context_parallel patches it
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal,
                                                            enable_gqa=q.shape[1] != k.shape[1])


def median_ms(function, passes=8, warm_up=3):
    times = []
    for n in range(warm_up + passes):
        dist.barrier()
        torch.cuda.synchronize()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    slowest = torch.tensor([statistics.median(times[warm_up:])], device="cuda")
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return slowest.item()


def measure(mesh, heads, kv_heads, tokens, causal):
    """Returns milliseconds forward, milliseconds forward and backward, and the bytes that PyTorch took on this rank."""
    torch.cuda.empty_cache()
    q, k, v, dout = (torch.randn(1, h, tokens, DIM, device="cuda", dtype=torch.bfloat16)
                     for h in (heads, kv_heads, kv_heads, heads))
    # cuts shards
    with context_parallel(mesh, buffers=[q, k, v, dout], buffer_seq_dims=[2] * 4, no_restore_buffers={q, k, v, dout}):
        torch.cuda.reset_peak_memory_stats()
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))

        def forward():
            with torch.no_grad():
                attention(q, k, v, causal)

        def both():
            torch.autograd.grad(attention(q, k, v, causal), (q, k, v), dout)

        return median_ms(forward), median_ms(both), torch.cuda.max_memory_allocated()


def main():
    torch.cuda.set_device(RANK)
    mesh = init_device_mesh("cuda", (WORLD,))
    torch.manual_seed(RANK)
    say = print if RANK == 0 else lambda *_, **__: None
    say(f"PyTorch {torch.__version__} context_parallel, {WORLD} x {torch.cuda.get_device_name()}")
    say("| heads | mask | tokens | backend, rotation | forward, ms | TFLOP/s per GPU | forward + backward, ms | "
        "TFLOP/s per GPU | peak bytes, rank 0 |")
    say("|---|---|---:|---|---:|---:|---:|---:|---:|")
    shapes = ((64, 8, 8192 * WORLD, True), (64, 64, 8192 * WORLD, True), (64, 64, 8192 * WORLD, False),
              (32, 8, 131072, True), (32, 32, 131072, True))
    backends = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION)
    if len(sys.argv) > 1:
        backends = backends[:1]
        shapes = [(*map(int, shape.split("/")), True) for shape in sys.argv[1:]]
    for backend, rotation in itertools.product(backends, ("allgather", "alltoall")):
        set_rotate_method(rotation)
        for heads, kv_heads, tokens, causal in shapes:
            _cp_options.enable_load_balance = causal
            name = (f"| {heads}/{kv_heads} | {'causal' if causal else 'full'} | {tokens:,} "
                    f"| {backend.name.split('_')[0].lower()}, {rotation}")
            try:
                with sdpa_kernel(backend):
                    forward, both, peak = measure(mesh, heads, kv_heads, tokens, causal)
            except Exception as refusal:  # which shapes it takes differs between releases
                say(f"{name} | refused: {str(refusal)[:120]!r} |", flush=True)
                continue
            flops = 4.0 * heads * tokens * tokens * DIM * (0.5 if causal else 1) / WORLD
            say(f"{name} | {forward:.3f} | {flops / forward / 1e9:.1f} | {both:.3f} | {3.5 * flops / both / 1e9:.1f} "
                f"| {peak:,} |", flush=True)
    dist.destroy_process_group()


main()
