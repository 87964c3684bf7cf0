#!/usr/bin/env bash
# How much of the speed of attention alone does a ring keep over NCCL and over peer copies, on two GPUs:
# transports.sh BUNDLE
# BUNDLE is an unpacked bundle (./flashring bundle). Ten blocks in which all ways take turns; TransportBench says what
# is compared.
set -euo pipefail
bundle=${1:?folder of an unpacked bundle}
nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader
nvidia-smi topo -m | head -4
timeout -k 5 "${2:-170}" "$bundle/run" launch --nproc 2 -- org.flashring.numerics.TransportBench
