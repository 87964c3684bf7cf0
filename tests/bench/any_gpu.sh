#!/usr/bin/env bash
# Are the kernels right on GPUs with 99 KB of shared memory a block, asked of any GPU under that cap, and what does it
# cost: any_gpu.sh BUILD [OUT]
# BUILD holds libflashring.so, cuda_check, cuda_extremes, cuda_rows and bench_cuda. Checks run side by side on the first
# GPU, then rates of the mma kernels with the device's own tiles and with the least. What each part printed is in
# OUT/NAME.txt (a folder of its own, if not given). The exit code is 0 if every part ended well.
set -uo pipefail
build=$(realpath "${1:?folder of the library and its tests}")
out=$(realpath -m "${2:-$(mktemp -d)}")
export build out LD_LIBRARY_PATH=$build${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
mkdir -p "$out"

part() { # part "NAME SECONDS COMMAND...": under the cap; it has to say so
    local name seconds command start=$SECONDS status
    read -r name seconds command <<<"$1"
    FLASHRING_CUDA_SHARED_MEMORY=99K timeout -k 5 "$seconds" bash -c "$command" >"$out/$name.txt" 2>&1
    status=$?
    grep -q '^tiles for 99 KB' "$out/$name.txt" || status=1
    printf '%-16s exit %3d %4d s   %s\n' "$name" $status $((SECONDS - start)) \
        "$(tail -1 "$out/$name.txt" | cut -c1-120)"
    ((status == 0))
}
export -f part

refused() { # refused CAP WORDS: nothing runs, and the cause is said
    local said
    said=$(FLASHRING_CUDA_SHARED_MEMORY=$1 "$build/cuda_check" --small --seeds 1 2>&1)
    if [[ $? == 77 && $said == *"$2"* ]]; then
        printf '%-16s %s\n' "cap $1" "$said"
    else
        printf '%-16s FAILED, it said: %s\n' "cap $1" "$(tail -1 <<<"$said")"
        return 1
    fi
}

nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
failed=0
refused 98K 'must be at least 99K' || failed=1
refused 99 'must be a number of kilobytes' || failed=1
checks=(
    'bfloat16 100 $build/cuda_check --seeds 5 --dtype bfloat16'
    'float16 100 $build/cuda_check --seeds 5 --dtype float16 --from 1000'
    'reference 100 $build/cuda_check --seeds 1 --small --from 2000'
    'extremes 100 $build/cuda_extremes'
    'rows 100 $build/cuda_rows --small'
    'memcheck 170 compute-sanitizer --tool memcheck --error-exitcode 1 '\
'$build/cuda_check --small --seeds 1 --dtype bfloat16'
)
printf '%s\n' "${checks[@]}" | xargs -d '\n' -P "${#checks[@]}" -I{} bash -c 'part "$1"' part {} || failed=1
for cap in '' 99K; do
    echo "mma, ${cap:-no} cap:"
    env ${cap:+FLASHRING_CUDA_SHARED_MEMORY=$cap} \
        timeout -k 5 30 "$build/bench_cuda" --kernel mma --seq 8192 || failed=1
done
exit "$failed"
