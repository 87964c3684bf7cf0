#!/usr/bin/env bash
# A step of one new token over a cache of 2^20 keys, on one GPU and dealt over two: dealt_cache.sh BUNDLE
# BUNDLE is an unpacked bundle (./flashring bundle). Ten rounds in which all ways take turns; DealtCacheBench says what
# is timed.
set -euo pipefail
bundle=${1:?folder of an unpacked bundle}
nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
timeout -k 5 "${2:-120}" "$bundle/run" launch --nproc 2 -- org.flashring.serve.DealtCacheBench
