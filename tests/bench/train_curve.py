#!/usr/bin/env python3
"""Does training in bfloat16 here learn as PyTorch's does?   train_curve.py BUNDLE OUT [options]

From the same float32 weights and over the same windows of a text, for each seed: `train --engine dense --device cuda`
in bfloat16, and PyTorch (the model of train_peer.py, its attention that of PyTorch) in float32 without TF32 and in
bfloat16. Told is the mean distance of losses to PyTorch's in float32, step by step: ours is to be at most 1.25 times
that of PyTorch in bfloat16. Gradients are clipped at 1 and AdamW is the same; there is no warm-up.

BUNDLE is an unpacked bundle (./flashring bundle), run with a Python that has PyTorch. OUT gets curve.json.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import train_peer as peer  # sets what has to be set before torch comes

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

VOCABULARY = 256
TIMES = 1.25


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle")
    parser.add_argument("out")
    for name, value in {
        "steps": 300,
        "tokens": 4096,
        "layers": 8,
        "dim": 768,
        "hidden": 2048,
        "heads": 12,
        "kv-heads": 4,
        "head-dim": 64,
    }.items():
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="cuda")
    o = parser.parse_args()
    o.vocabulary, o.after_step = VOCABULARY, 0
    return o


def write_text(path):
    """Writes a text of this repository's sources, the same each time."""
    root = pathlib.Path(__file__).resolve().parent.parent
    files = sorted(each for folder in ("java", "cpp") for each in (root / folder).rglob("*") if each.is_file())
    path.write_bytes(b"".join(each.read_bytes() for each in files))


def ours(o, folder, text, seed, steps, dtype, lr, *more):
    """Returns the losses of a run of ours."""
    device = ["--device", "cuda"] if o.device == "cuda" else []
    command = [os.path.join(o.bundle, "run"), "train", "--engine", "dense", *device, "--ranks", "1", "--batch", "1"]
    for name in ("layers", "dim", "hidden", "heads", "kv_heads", "head_dim"):
        command += ["--" + name.replace("_", "-"), str(getattr(o, name))]
    command += ["--context", str(o.tokens), "--seed", str(seed), "--steps", str(steps), "--dtype", dtype]
    command += ["--lr", str(lr), "--warmup", "0", "--text", str(text), "--out", str(folder), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [step["loss"] for step in json.loads((folder / "result.json").read_text())["steps"]]


def theirs(o, weights, text, seed, dtype):
    """Returns the losses of a run of PyTorch."""
    o.seed = seed
    device = torch.device(o.device)
    with torch.device(device):
        model = peer.Llama(o, False)
    peer.load(model, weights)
    masters = [parameter.detach().clone() for parameter in model.parameters()]
    model.to(dtype)
    optimizer = torch.optim.AdamW(masters, o.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True)
    pairs = torch.arange(0, o.head_dim, 2, dtype=torch.float64, device=device) / o.head_dim
    angles = torch.outer(torch.arange(o.tokens, dtype=torch.float64, device=device), 10_000**-pairs)
    cos, sin = (f(angles).to(dtype) for f in (torch.cos, torch.sin))
    losses = []
    backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    for step in range(1, o.steps + 1):
        ids = peer.row(o, text, step).to(device)[None]
        labels = torch.cat([ids[:, 1:], torch.full((1, 1), -100, device=device)], 1)
        with sdpa_kernel(backends, set_priority=True):
            loss = model(ids, labels, cos, sin, "none") / (o.tokens - 1)
            loss.backward()
        for master, parameter in zip(masters, model.parameters()):
            master.grad = parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(list(model.parameters()), masters)
        losses.append(loss.detach().double())
    return torch.stack(losses).tolist()


def distance(one, other):
    return statistics.fmean(abs(a - b) for a, b in zip(one, other, strict=True))


def main():
    o = options()
    out = pathlib.Path(o.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        path = folder / "text"
        write_text(path)
        text = path.read_bytes()
        for seed in map(int, o.seeds.split(",")):
            # A rate that changes no float32: the checkpoint is what each run begins with.
            weights = folder / f"weights-{seed}"
            begun = ours(o, weights, path, seed, 1, "float32", 1e-30, "--checkpoint-every", "1")
            start = time.time()
            losses = {"ours": ours(o, folder / f"ours-{seed}", path, seed, o.steps, "bf16", o.lr)}
            seconds = {"ours": time.time() - start}
            for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
                start = time.time()
                losses[name] = theirs(o, weights / "checkpoint-00000001", text, seed, dtype)
                seconds[name] = time.time() - start
            run = {
                "seed": seed,
                "beginsAlike": abs(begun[0] - losses["float32"][0]),
                "ours": distance(losses["ours"], losses["float32"]),
                "bfloat16": distance(losses["bfloat16"], losses["float32"]),
                "lastLosses": {name: statistics.fmean(each[-20:]) for name, each in losses.items()},
                "seconds": seconds,
            }
            print(json.dumps(run), flush=True)
            runs.append({**run, "losses": losses})
    means = {name: statistics.fmean(run[name] for run in runs) for name in ("ours", "bfloat16")}
    ratio = means["ours"] / means["bfloat16"]
    alike = max(run["beginsAlike"] for run in runs)
    options_told = {name: value for name, value in vars(o).items() if name not in ("bundle", "out")}
    summary = {"options": options_told, "torch": torch.__version__, "means": means, "ratio": ratio, "runs": runs}
    (out / "curve.json").write_text(json.dumps(summary))
    print(json.dumps({"means": means, "ratio": ratio, "beginsAlike": alike}))
    return not (ratio <= TIMES and alike <= 1e-4)  # NaN is no success


if __name__ == "__main__":
    sys.exit(main())
