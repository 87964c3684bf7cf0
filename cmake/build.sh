#!/usr/bin/env bash
# Configures and builds the native library and its tests: (called by Maven)
# build.sh BUILD_FOLDER [AUTO|ON|OFF [ARCHITECTURES [TARGETS]]]
set -euo pipefail
build=${1:?build folder}
cuda=${2:-AUTO}
architectures=${3:-DEFAULT}
read -ra targets <<<"${4:-all}"
here=$(cd "$(dirname "$0")" && pwd)

if ! command -v cmake >/dev/null; then
  echo "FlashRing needs CMake 3.22 or newer to build its native library: install the package 'cmake'." >&2
  exit 1
fi
if ! command -v "${CXX:-g++}" >/dev/null; then
  echo "FlashRing needs a C++17 compiler to build its native library: install the package 'g++', or set CXX." >&2
  exit 1
fi
generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi

bash "$here/forget_moved.sh" "$build" "$here"
options=(-U FLASHRING_CUDA_ARCHITECTURES) # not what an earlier build asked for
if [[ $architectures != DEFAULT ]]; then options=(-D FLASHRING_CUDA_ARCHITECTURES="$architectures"); fi
cmake -S "$here" -B "$build" "${generator[@]}" -DFLASHRING_CUDA="$cuda" "${options[@]}"
cmake --build "$build" --parallel "$(nproc)" --target "${targets[@]}"
