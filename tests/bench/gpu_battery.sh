#!/usr/bin/env bash
# Is every CUDA kernel right on this host, and how fast: gpu_battery.sh BUILD GPUS OUT
# BUILD holds libflashring.so, cuda_check, cuda_extremes, cuda_backward, cuda_selection, cuda_graph, cuda_rows,
# cuda_invariant, cuda_float8 and cuda_faults; checks run side by side, one a GPU, then benchmarks alone on the first.
# What each printed is in OUT/NAME.txt; the last lines are shown. Where PyTorch or compute-sanitizer is missing, its
# parts say so.
# The exit code is 0 if every part ended well.
set -uo pipefail
build=$(realpath "${1:?folder of the library and its tests}")
gpus=${2:?number of GPUs}
out=$(realpath -m "${3:?folder for what is printed}")
here=$(cd "$(dirname "$0")" && pwd)
export build out here LD_LIBRARY_PATH=$build${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
mkdir -p "$out"

part() { # part "NAME SECONDS COMMAND...", on GPU $SLOT
    local name seconds command start=$SECONDS status
    read -r name seconds command <<<"$1"
    CUDA_VISIBLE_DEVICES=${SLOT:-0} timeout -k 5 "$seconds" bash -c "$command" >"$out/$name.txt" 2>&1
    status=$?
    printf '%-18s exit %3d %4d s   %s\n' "$name" $status $((SECONDS - start)) \
        "$(tail -1 "$out/$name.txt" | cut -c1-150)"
    ((status == 0))
}
export -f part

nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
sanitized='--error-exitcode 1 $build/cuda_check --small --seeds 1'
checks=(
    'check-bfloat16 200 $build/cuda_check --seeds 6 --dtype bfloat16'
    'check-float16 200 $build/cuda_check --seeds 6 --dtype float16'
    "memcheck 280 compute-sanitizer --tool memcheck $sanitized"
    "initcheck 280 compute-sanitizer --tool initcheck $sanitized"
    "synccheck 280 compute-sanitizer --tool synccheck $sanitized"
    'extremes 200 $build/cuda_extremes'
    'backward-steps 120 $build/cuda_backward'
    'selection 60 $build/cuda_selection'
    'graph 60 $build/cuda_graph'
    'rows 200 $build/cuda_rows'
    'invariant 100 $build/cuda_invariant'
    'float8 100 $build/cuda_float8'
    'faults 60 $build/cuda_faults'
    'memcheck-rows 280 compute-sanitizer --tool memcheck --error-exitcode 1 $build/cuda_rows --small --seeds 2'
    'check-all 280 $build/cuda_check --seeds 2'
    'synccheck-extremes 200 compute-sanitizer --tool synccheck --error-exitcode 1 $build/cuda_extremes --small'
    'torch-check 200 python3 $here/cuda_vs_torch.py $build/libflashring.so check --seeds 60'
    'sass 100 python3 $here/../cpp/cuda/sm90_sass.py $build/libflashring.so'
)
printf '%s\n' "${checks[@]}" | xargs -d '\n' -P "$gpus" -I{} --process-slot-var=SLOT bash -c 'part "$1"' part {}
failed=$?
part 'forward 200 python3 $here/forward_vs_cudnn.py $build/libflashring.so --quick --json $out/forward.json' || failed=1
part 'backward 200 python3 $here/backward_vs_cudnn.py $build/libflashring.so '\
'--quick --no-check --json $out/backward.json' || failed=1
part 'flash 200 python3 $here/cuda_vs_torch.py $build/libflashring.so bench' || failed=1
exit "$((failed != 0))"
