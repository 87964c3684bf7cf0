#!/usr/bin/env bash
# How fast does a model of 1.11 billion parameters learn on the GPUs of a host, and how fast with PyTorch's
# context_parallel and FSDP2: train_gpu.sh BUNDLE PYTHON OUT
# BUNDLE is an unpacked bundle (./flashring bundle), PYTHON has PyTorch, OUT gets a result.json of each run. Variables:
# GPUS, TOKENS (of the one sequence of a step), STEPS, TRANSPORTS, LAYERS, HEADS, KV_HEADS, HEAD_DIM, RING_HEADS,
# RECOMPUTE (how train saves memory), TRAIN (more options of train), PEER (options of train_peer.py; empty: PyTorch
# does not run), SECONDS_OURS and SECONDS_PEER (that a run may take). Steps told are medians without the first two.
set -uo pipefail
bundle=$(realpath "${1:?folder of an unpacked bundle}")
python=${2:?python with PyTorch}
out=$(realpath -m "${3:?folder for results}")
here=$(cd "$(dirname "$0")" && pwd)
gpus=${GPUS:-2}
tokens=${TOKENS:-131072}
steps=${STEPS:-4}
shape=(--layers "${LAYERS:-16}" --heads "${HEADS:-32}" --kv-heads "${KV_HEADS:-8}" --head-dim "${HEAD_DIM:-64}")
mkdir -p "$out"
failed=0

ours() { # ours TRANSPORT
    local start=$SECONDS
    timeout -k 5 "${SECONDS_OURS:-110}" "$bundle/run" launch --nproc "$gpus" -- \
        train --engine dense --device cuda --dtype bf16 --transport "$1" "${shape[@]}" \
        --dim 2048 --hidden 8192 --vocab pairs \
        --context "$tokens" --batch 1 --steps "$steps" --lr 3e-4 --warmup 100 \
        --strategy ring --ring-heads "${RING_HEADS:-4}" \
        --recompute ${RECOMPUTE:-keep} --text "$here/../java" "$here/../cpp" --out "$out/$1" ${TRAIN:-} \
        2>&1 | while IFS= read -r line; do
        printf '%3d s  %s\n' $((SECONDS - start)) "$line"
    done >"$out/$1.txt" || failed=1
    tail -25 "$out/$1.txt" | cut -c1-240
    [[ -f $out/$1/result.json ]] && "$python" - "$1" "$gpus" "$tokens" "$out/$1/result.json" <<'PYTHON'
import json, statistics, sys
transport, gpus, tokens, path = sys.argv[1:]
result = json.load(open(path))
seconds = [step["seconds"] for step in result["steps"]]
step = statistics.median(seconds[2:] or seconds)
flops = result["flops"]
print(json.dumps({
    "engine": "ours", "transport": transport, "secondsPerStep": step,
    "tokensPerSecondPerGpu": int(tokens) / step / int(gpus),
    "mfu": (flops["dense"] + flops["attention"]) / step / int(gpus) / 989e12,
    "memory": result["memory"], "phaseSeconds": result["phaseSeconds"], "seconds": seconds,
    "losses": [each["loss"] for each in result["steps"]]}))
PYTHON
    echo "ours over $1: $((SECONDS - start)) s of this script"
}

nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
for transport in ${TRANSPORTS-peer nccl}; do
    ours "$transport"
done
peer=${PEER---engine eager --recompute none --rotate alltoall}
if [[ -n $peer ]]; then
    start=$SECONDS
    # shellcheck disable=SC2086
    timeout -k 5 "${SECONDS_PEER:-110}" "$python" -m torch.distributed.run --nproc_per_node "$gpus" \
        "$here/train_peer.py" --tokens "$tokens" --steps "$steps" --lr 3e-4 "${shape[@]}" $peer \
        --json "$out/pytorch.json" 2>"$out/pytorch.err" || { failed=1; tail -5 "$out/pytorch.err"; }
    echo "PyTorch: $((SECONDS - start)) s of this script"
fi
exit $failed
