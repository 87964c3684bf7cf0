#!/usr/bin/env bash
# Rings of all and of some heads beside PyTorch's context_parallel, in turns, on the two GPUs of a host:
# context_parallel.sh BUNDLE PYTHON [ROUNDS]
# BUNDLE is an unpacked bundle (./flashring bundle), PYTHON has PyTorch. In each round PyTorch is timed, then ours, the
# heads all at once and a half and a quarter at a time in turns on the same operands, then PyTorch again. Ours is over
# peer copies; TRANSPORT=nccl changes that.
set -euo pipefail
bundle=${1:?folder of an unpacked bundle}
python=${2:?python with PyTorch}
here=$(cd "$(dirname "$0")" && pwd)
torch() {
    timeout -k 5 120 "$python" -m torch.distributed.run --nproc_per_node 2 \
        "$here/context_parallel_torch.py" 64/8/16384 64/64/16384 2>/dev/null |
        grep '^|'
}
ours() {
    for heads in 64/8/2 64/8/4 64/64/16 64/64/32; do
        IFS=/ read -r query key carried <<< "$heads"
        timeout -k 5 120 "$bundle/run" launch --nproc 2 -- bench --ranks 2 --device cuda \
            --transport "${TRANSPORT:-peer}" --dtype bfloat16 --heads "$query" --kv-heads "$key" --length 16384 \
            --dim 128 --causal --strategy ring --ring-heads "$carried" --repeats 15 |
            grep -E 'B1 H| ring'
    done
}
nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
for round in $(seq "${3:-2}"); do
    echo "round $round"
    torch
    ours
    torch
done
