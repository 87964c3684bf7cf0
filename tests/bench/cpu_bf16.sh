#!/usr/bin/env bash
# bfloat16 on the CPU, from built files alone: tests the kernels that multiply in it, then times them beside float32.
# Usage: tests/bench/cpu_bf16.sh [BUILD_DIR, default target/native]; in less than 90 seconds on 16 cores.
set -euo pipefail
build=${1:-target/native}
export LD_LIBRARY_PATH="$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"  # wherever the files were built
grep -m 1 "model name" /proc/cpuinfo
failed=0
for kernel in avx512bf16 amx; do
  for name in kernels bfloat16 extremes determinism precision; do
    status=0
    FLASHRING_TEST_KERNEL=$kernel "$build/tests/test_$name" || status=$?
    if [ "$status" -eq 77 ]; then
      break  # the other tests would be skipped, too
    elif [ "$status" -ne 0 ]; then
      echo "$kernel: test_$name FAILED with $status"
      failed=1
    fi
  done
done
"$build/bench/bench_attention" avx512,avx512bf16,amx float32,bfloat16 0 0.6 | awk '
  { print }
  $5 == "forward" {
    shape = $3 " " $4; forward[$1 " " $2, shape] = $8; backward[$1 " " $2, shape] = $16
    if (!(shape in seen)) { seen[shape] = 1; shapes[++count] = shape }
    if (!(($1 " " $2) in met)) { met[$1 " " $2] = 1; rows[++kernels] = $1 " " $2 }
  }
  END {
    print "\nGFLOP/s, as a multiple of avx512 float32:"
    for (i = 1; i <= kernels; ++i) for (j = 1; j <= count; ++j)
      if (forward["avx512 float32", shapes[j]] > 0)
        printf "%-20s %-12s forward %.2f backward %.2f\n", rows[i], shapes[j],
               forward[rows[i], shapes[j]] / forward["avx512 float32", shapes[j]],
               backward[rows[i], shapes[j]] / backward["avx512 float32", shapes[j]]
  }'
exit $failed
