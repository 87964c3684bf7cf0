#!/usr/bin/env bash
# Runs a compilation with -Xptxas=-v, and fails it where ptxas spills registers, gives a kernel a stack, or serialises
# wgmma (its remarks C75xx): each costs a large part of a kernel's speed without a word otherwise.   (called by CMake)
#   spill_gate.sh [--only NAME] COMMAND...    NAME: a part of the mangled names of the kernels held to it; else all
set -uo pipefail
only=
if [[ $1 == --only ]]; then
  only=$2
  shift 2
fi
report=$("$@" 2>&1)
status=$?
if ((status != 0)); then
  echo "$report" >&2
  exit "$status"
fi
held=$(grep -E -A1 "Function properties for .*$only|\(C75[0-9]{2}\)" <<<"$report")
if grep -E '\(C75[0-9]{2}\)|[1-9][0-9]* bytes (stack frame|spill)' <<<"$held" >&2; then
  grep -E 'Function properties|bytes stack' <<<"$held" >&2
  echo "a kernel spills registers or serialises its products: see above" >&2
  exit 1
fi
