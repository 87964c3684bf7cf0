#!/usr/bin/env bash
# Is the ring right on N GPUs of this host, how does its speed scale, and what does PyTorch do there:
# ring_scaling.sh BUNDLE N
# BUNDLE is an unpacked bundle (./flashring bundle). The exit code is 0 if every part ended well.
set -uo pipefail
bundle=${1:?folder of an unpacked bundle}
gpus=${2:?number of GPUs}
here=$(cd "$(dirname "$0")" && pwd)
CUDA_VISIBLE_DEVICES=$(seq -s, 0 $((gpus - 1)))
export CUDA_VISIBLE_DEVICES
whole=420 # seconds, for all parts
failed=0

part() { # part SECONDS TITLE COMMAND...
    local left=$((whole - SECONDS)) start=$SECONDS
    local seconds=$((left < 1 ? 1 : left < $1 ? left : $1))
    printf '\n## %s\n\n' "$2"
    shift 2
    if timeout -k 5 "$seconds" "$@" 2>&1; then
        echo "($((SECONDS - start)) s)"
    else
        echo "FAILED with exit code $? after $((SECONDS - start)) s"
        failed=1
    fi
}

nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
part 110 "Ring over NCCL, a process per GPU" "$bundle/run" launch --nproc "$gpus" -- org.flashring.numerics.RingBench
part 60 "Ring against one GPU, a process per GPU" \
    "$bundle/run" launch --nproc "$gpus" -- 'org.flashring.numerics.NcclRingTest$Rank'
if ((gpus > 4)); then
    part 60 "Ring against one GPU, four processes" \
        "$bundle/run" launch --nproc 4 -- 'org.flashring.numerics.NcclRingTest$Rank'
fi
part 60 "verify, every case over $gpus ranks" "$bundle/run" verify --device cuda --ranks "$gpus" --cases 100
if command -v torchrun >/dev/null; then
    part 90 "PyTorch context_parallel" torchrun --standalone --nproc_per_node "$gpus" "$here/context_parallel_torch.py"
fi
part 60 "Ring against one GPU, by threads" "$bundle/run" test --include-tag=gpu --include-classname='.*NcclRingTest'
part 110 "Ring over copies, a thread per GPU" "$bundle/run" launch --nproc 1 -- org.flashring.numerics.RingBench threads
exit "$failed"
