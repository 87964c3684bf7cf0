#!/usr/bin/env bash
# Builds library and native tests with AddressSanitizer and UndefinedBehaviorSanitizer and runs them, or one of these:
# sanitize.sh BUILD_FOLDER [build|test]
set -euo pipefail
build=${1:?build folder}
only=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
if [[ $only != test ]]; then
  generator=()
  if command -v ninja >/dev/null; then generator=(-G Ninja); fi
  bash "$here/forget_moved.sh" "$build" "$here"
  cmake -S "$here" -B "$build" "${generator[@]}" -DFLASHRING_CUDA=OFF -DFLASHRING_SANITIZE=ON
  cmake --build "$build" --parallel "$(nproc)"
fi
if [[ $only != build ]]; then
  # Any report ends the test that caused it.
  export ASAN_OPTIONS=abort_on_error=0:exitcode=99:detect_leaks=1:allocator_may_return_null=1
  export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
  ctest --test-dir "$build" --output-on-failure --parallel 2 --label-exclude full
fi
