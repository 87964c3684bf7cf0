#!/usr/bin/env python3
"""A Llama-shaped model trained by PyTorch's context_parallel and FSDP2 on all GPUs of the host, as `train --engine
dense` trains it: torchrun --nproc_per_node N train_peer.py --tokens 131072 [--model CHECKPOINT] [--text FILE]
[--json FILE]

Weights are those of a checkpoint of ours (model.safetensors) or random; rows are the windows of --text that
`train --vocab pairs --batch 1` takes by the same --seed, or random tokens; with --after-step N those of a run
that goes on after N steps, whose first loss is then that of this one. bfloat16 weights, float32 masters,
gradients summed in float32, AdamW with its usual settings, clip at 1, all sharded over the ranks of
context_parallel; loss by tiles of 4,096 rows, checkpointed.

Settings searched, of which the fastest that fits is named: how keys go round (allgather, alltoall), what
backward computes again (none; sdpa: attention's operands and results are kept, dense parts computed again;
full: each block), and eager or compiled. Seconds of a step are the slowest rank's, medians without the first
two. FLOPs: 6 x weights (the embedding apart) x tokens + 6 x layers x query width x tokens^2.
"""
import argparse
import contextlib
import datetime
import gc
import hashlib
import json
import os
import statistics
import time

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.experimental import context_parallel
from torch.distributed.tensor.experimental._attention import set_rotate_method
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

LOSS_TILE = 4096
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH}


@torch.compiler.disable
def attention(q, k, v):
    grouped = q.shape[1] != k.shape[1]
    # looked up late: context_parallel patches it
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)


def again(function, *operands):
    return checkpoint(function, *operands, use_reentrant=False)


class Block(nn.Module):
    def __init__(self, o, compiled):
        super().__init__()
        self.o = o
        self.attention_norm, self.mlp_norm = (nn.RMSNorm(o.dim, eps=1e-6) for _ in range(2))
        self.qkv = nn.Linear(o.dim, (o.heads + 2 * o.kv_heads) * o.head_dim, bias=False)
        self.output = nn.Linear(o.heads * o.head_dim, o.dim, bias=False)
        self.gate_up = nn.Linear(o.dim, 2 * o.hidden, bias=False)
        self.down = nn.Linear(o.hidden, o.dim, bias=False)
        self.input, self.mlp = (torch.compile(f, dynamic=False) if compiled else f for f in (self._input, self._mlp))

    def _input(self, x, cos, sin):
        def turned(heads):
            first, second = heads.chunk(2, -1)
            return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

        o = self.o
        parts = self.qkv(self.attention_norm(x)).split([o.heads * o.head_dim] + [o.kv_heads * o.head_dim] * 2, -1)
        q, k, v = (part.unflatten(-1, (-1, o.head_dim)).transpose(1, 2) for part in parts)
        return turned(q), turned(k), v

    def _mlp(self, x, out):
        x = x + self.output(out.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)

    def _whole(self, x, cos, sin):
        return self.mlp(x, attention(*self.input(x, cos, sin)))

    def forward(self, x, cos, sin, recompute):
        if recompute == "full":
            return again(self._whole, x, cos, sin)
        if recompute == "sdpa":
            return again(self.mlp, x, attention(*again(self.input, x, cos, sin)))
        return self._whole(x, cos, sin)


class Llama(nn.Module):
    def __init__(self, o, compiled):
        super().__init__()
        self.embed = nn.Embedding(o.vocabulary, o.dim)
        self.blocks = nn.ModuleList(Block(o, compiled) for _ in range(o.layers))
        self.norm = nn.RMSNorm(o.dim, eps=1e-6)
        self.head = nn.Linear(o.dim, o.vocabulary, bias=False)
        self.tile = torch.compile(self._tile, dynamic=False) if compiled else self._tile

    def _tile(self, x, labels):
        return functional.cross_entropy(self.head(self.norm(x)).float(), labels, reduction="sum")

    def forward(self, ids, labels, cos, sin, recompute):
        """Returns the sum of the losses."""
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, cos, sin, recompute)
        tiles = zip(x[0].split(LOSS_TILE), labels[0].split(LOSS_TILE))
        return sum(again(self.tile, rows, targets) for rows, targets in tiles)


def safetensors(path):
    """Returns a function that reads a tensor by its name."""
    types = {"F32": torch.float32, "F64": torch.float64, "BF16": torch.bfloat16}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()

    def read(name):
        entry = header[name + ".weight"]
        first, end = entry["data_offsets"]
        with open(path, "rb") as file:
            file.seek(start + first)
            values = torch.frombuffer(bytearray(file.read(end - first)), dtype=types[entry["dtype"]])
        return values.view(entry["shape"]).float()

    return read


def load(model, path):
    read = safetensors(os.path.join(path, "model.safetensors"))
    with torch.no_grad():
        model.embed.weight.copy_(read("model.embed_tokens"))
        model.norm.weight.copy_(read("model.norm"))
        model.head.weight.copy_(read("lm_head"))
        for layer, block in enumerate(model.blocks):
            prefix = f"model.layers.{layer}."
            block.attention_norm.weight.copy_(read(prefix + "input_layernorm"))
            block.qkv.weight.copy_(torch.cat([read(f"{prefix}self_attn.{part}_proj") for part in "qkv"]))
            block.output.weight.copy_(read(prefix + "self_attn.o_proj"))
            block.mlp_norm.weight.copy_(read(prefix + "post_attention_layernorm"))
            block.gate_up.weight.copy_(torch.cat([read(f"{prefix}mlp.{part}_proj") for part in ("gate", "up")]))
            block.down.weight.copy_(read(prefix + "mlp.down_proj"))


def shape_of(options):
    """Sets the sizes of a checkpoint's model."""
    with open(os.path.join(options.model, "config.json")) as file:
        config = json.load(file)
    options.layers, options.dim = config["num_hidden_layers"], config["hidden_size"]
    options.hidden = config["intermediate_size"]
    options.heads, options.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    options.head_dim, options.vocabulary = config["head_dim"], config["vocab_size"]


LONG, ODD = (1 << 64) - 1, 0x9E3779B97F4A7C15


def mix(value):
    """SplitMix64, as InitialValues has it."""
    z = (value + ODD) & LONG
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & LONG
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & LONG
    return z ^ z >> 31


def next_int(seed, bound):
    """The first nextInt(bound) of a java.util.Random."""
    state = (seed ^ 0x5DEECE66D) & (1 << 48) - 1

    def bits():
        nonlocal state
        state = (state * 0x5DEECE66D + 0xB) & (1 << 48) - 1
        return state >> 17

    if bound & bound - 1 == 0:
        return bound * bits() >> 31
    while True:
        drawn = bits()
        if drawn - drawn % bound + bound - 1 < 1 << 31:
            return drawn % bound


def row(options, text, step):
    """Returns the ids of a step."""
    if text is None:
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        return torch.randint(0, options.vocabulary, (options.tokens,), generator=generator)
    size = 2 if options.vocabulary == 65536 else 1
    start = next_int(mix((mix(options.seed & LONG) + step * ODD) & LONG), len(text) - options.tokens * size + 1)
    window = torch.frombuffer(bytearray(text[start:start + options.tokens * size]), dtype=torch.uint8).long()
    return window[0::2] + 256 * window[1::2] if size == 2 else window


def run(options, text, device, mesh, rotate, recompute, engine):
    """Returns what a setting comes to: losses, seconds of a step, bytes."""
    set_rotate_method(rotate)
    torch.manual_seed(0)
    with torch.device(device):
        model = Llama(options, engine == "compiled")
    if options.model:
        load(model, options.model)
    weights = sum(p.numel() for p in model.parameters()) - model.embed.weight.numel()
    policy = MixedPrecisionPolicy(param_dtype=getattr(torch, options.type), reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    optimizer = torch.optim.AdamW(
        model.parameters(), options.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True)
    pairs = torch.arange(0, options.head_dim, 2, dtype=torch.float64, device=device) / options.head_dim
    angles = torch.outer(torch.arange(options.tokens, dtype=torch.float64, device=device), 10_000**-pairs)
    losses, seconds = [], []
    world = dist.get_world_size()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for step in range(1, options.steps + 1):
        ids = row(options, text, options.after_step + step).to(device)[None]
        labels = torch.cat([ids[:, 1:], torch.full((1, 1), -100, device=device)], 1)
        cos, sin = (f(angles).to(getattr(torch, options.type)) for f in (torch.cos, torch.sin))
        buffers = [ids, labels, cos, sin]
        synchronize(device)
        start = time.perf_counter()
        shards = contextlib.nullcontext()
        if world > 1:
            shards = context_parallel(
                mesh, buffers=buffers, buffer_seq_dims=[1, 1, 0, 0], no_restore_buffers=set(buffers))
        with sdpa_kernel(BACKENDS[options.attention]), shards:
            loss = model(ids, labels, cos, sin, recompute)
            (loss * (world / (options.tokens - 1))).backward()  # FSDP takes the mean over ranks of what is a sum
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronize(device)
        spent = torch.tensor([time.perf_counter() - start], device=device)
        dist.all_reduce(spent, op=dist.ReduceOp.MAX)
        total = loss.detach().double()
        dist.all_reduce(total)
        losses.append(total.item() / (options.tokens - 1))
        seconds.append(spent.item())
    step = statistics.median(seconds[2:] or seconds)
    flops = 6.0 * weights * options.tokens
    flops += 6.0 * options.layers * options.heads * options.head_dim * options.tokens**2
    return {
        "secondsPerStep": step,
        "tokensPerSecondPerGpu": options.tokens / step / world,
        "mfu": flops / step / world / options.peak_flops,
        "peakBytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "losses": losses,
        "seconds": seconds,
    }


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    dist.barrier()


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name, value in {
        "tokens": 131072,
        "steps": 5,
        "after-step": 0,
        "seed": 1,
        "layers": 16,
        "dim": 2048,
        "hidden": 8192,
        "heads": 32,
        "kv-heads": 8,
        "head-dim": 64,
        "vocabulary": 65536,
    }.items():
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--peak-flops", type=float, default=989e12)
    parser.add_argument("--type", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--attention", choices=sorted(BACKENDS), default="cudnn")
    parser.add_argument("--rotate", default="allgather,alltoall")
    parser.add_argument("--recompute", default="none,sdpa,full")
    parser.add_argument("--engine", default="eager,compiled")
    for name in ("model", "text", "json"):
        parser.add_argument("--" + name)
    return parser.parse_args()


def main():
    options = parsed()
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=datetime.timedelta(minutes=4))
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    if options.model:
        shape_of(options)
    text = None
    if options.text:
        with open(options.text, "rb") as file:
            text = file.read()
    results = []
    for engine in options.engine.split(","):
        for recompute in options.recompute.split(","):
            for rotate in options.rotate.split(","):
                result = {"rotate": rotate, "recompute": recompute, "engine": engine}
                try:
                    result.update(run(options, text, device, mesh, rotate, recompute, engine))
                except torch.OutOfMemoryError:  # of all ranks: their shares are equal
                    result["error"] = "out of memory"
                except Exception as e:  # a setting that PyTorch does not serve is no end of the search
                    result["error"] = f"{type(e).__name__}: {e}"[:300]
                gc.collect()
                torch._dynamo.reset()
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                results.append(result)
                if dist.get_rank() == 0:
                    print(json.dumps(result), flush=True)
    done = [result for result in results if "error" not in result]
    summary = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "gpus": dist.get_world_size(),
        "options": vars(options),
        "textDigest": hashlib.sha256(text).hexdigest() if text is not None else None,
        "best": max(done, key=lambda result: result["tokensPerSecondPerGpu"], default=None),
        "smallest": min(done, key=lambda result: result["peakBytes"] or 0, default=None),
        "results": results,
    }
    if dist.get_rank() == 0:
        print(json.dumps({key: value for key, value in summary.items() if key != "results"}), flush=True)
        if options.json:
            with open(options.json, "w") as file:
                json.dump(summary, file, indent=2)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
