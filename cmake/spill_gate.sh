#!/usr/bin/env bash
# Runs a compilation with -Xptxas=-v, and fails it where ptxas spills registers, gives a kernel a stack, or serialises wgmma
# (its remarks C75xx): each costs a large part of a kernel's speed without a word otherwise.   (called by CMake)
set -uo pipefail
report=$("$@" 2>&1)
status=$?
if ((status != 0)); then
  echo "$report" >&2
  exit "$status"
fi
if echo "$report" | grep -E '\(C75[0-9]{2}\)|[1-9][0-9]* bytes (stack frame|spill)' >&2; then
  echo "$report" | grep -E 'Compiling entry|bytes stack' >&2
  echo "a kernel spills registers or serialises its products: see above" >&2
  exit 1
fi
